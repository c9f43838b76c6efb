"""Every process of the stack: its command, what it is told, how it is stopped and when it counts as ready."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts.stack import gateway, postgres, probes, rabbitmq, redis
from scripts.stack.environment import service_environment
from scripts.stack.instance import REPOSITORY, SERVICES, Instance

INFRASTRUCTURE = ("postgres", "epmd", "rabbitmq", "redis")
EDGE = ("mail", "problems", "gateway")
# Down in this order, each line together: nobody is left talking to a server that is gone.
STOP_ORDER = (("gateway", "problems"), SERVICES, ("mail", "redis", "rabbitmq", "postgres"), ("epmd",))


@dataclass(frozen=True)
class Program:
    """One supervised process."""

    name: str
    command: tuple[str, ...]
    address: str
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    stop_wait_s: int = 10


def exists(service: str) -> bool:
    """Whether the service can be run: it has a `__main__`."""
    return (REPOSITORY / "services" / service / "src" / service / "__main__.py").exists()


def existing_services(wanted: Collection[str] | None = None) -> tuple[str, ...]:
    """The services that can be run (and are wanted), in the order they start."""
    return tuple(service for service in SERVICES if exists(service) and (wanted is None or service in wanted))


def all_programs(instance: Instance, caller: Mapping[str, str]) -> dict[str, Program]:
    """Every program of the instance by name, in starting order."""
    programs = [
        *_servers(instance),
        *_edge(instance),
        *(_service(instance, service, caller) for service in existing_services()),
    ]
    return {program.name: program for program in programs}


def _servers(instance: Instance) -> list[Program]:
    ports = instance.ports
    return [
        Program(
            "postgres",
            tuple(postgres.command(instance)),
            f"127.0.0.1:{ports['postgres']}",
            lambda: probes.postgres_accepts(ports["postgres"]),
            stop_signal="INT",  # fast shutdown: clients are told to go
        ),
        Program(
            "epmd",
            ("epmd", "-port", str(ports["epmd"]), "-address", "127.0.0.1"),
            f"127.0.0.1:{ports['epmd']}",
            lambda: probes.connects(ports["epmd"]),
        ),
        Program(
            "rabbitmq",
            (rabbitmq.SERVER,),
            f"127.0.0.1:{ports['amqp']}",
            lambda: probes.amqp_greets(ports["amqp"]),
            environment=rabbitmq.environment(instance),
            stop_wait_s=30,
        ),
        Program(
            "redis",
            tuple(redis.command(instance)),
            f"127.0.0.1:{ports['redis']}",
            lambda: probes.redis_answers(ports["redis"], instance.secrets["redis"]),
        ),
    ]


def _edge(instance: Instance) -> list[Program]:
    ports = instance.ports
    mail = ("--port", str(ports["smtp"]), "--maildir", str(instance.home / "mail"))
    return [
        Program(
            "mail",
            (sys.executable, "-m", "scripts.stack.mailserver", *mail),
            f"127.0.0.1:{ports['smtp']}",
            lambda: probes.connects(ports["smtp"]),
        ),
        Program(
            "problems",
            tuple(gateway.problems_command(instance)),
            f"127.0.0.1:{ports['problems']}",
            lambda: probes.connects(ports["problems"]),
        ),
        Program(
            "gateway",
            tuple(gateway.command(instance)),
            instance.public_url,
            lambda: probes.http_ok(ports["gateway_internal"], "/ping") and probes.connects(ports["public"]),
        ),
    ]


def _service(instance: Instance, service: str, caller: Mapping[str, str]) -> Program:
    api, ops = instance.service_ports(service)
    return Program(
        service,
        (sys.executable, "-m", service, "all"),
        f"127.0.0.1:{api}, operations {ops}",
        lambda: probes.http_ok(ops, "/readyz"),
        environment=service_environment(instance, service, caller),
        stop_wait_s=20,
    )


def log_of(instance: Instance, name: str) -> Path:
    """Where a program's output goes."""
    return instance.logs / f"{name}.log"
