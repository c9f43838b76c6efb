"""The gateway of the instance: its configuration filled in from `gateway/`, Traefik, and the answers of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from gateway.render import BODY_BYTES_MAX, RATE_BURST, RATE_PER_S, Replicas, render
from scripts.stack.instance import SERVICES, Instance

ACCESS_LOG_BYTES_MAX = 50_000_000


def prepare(instance: Instance, caller: Mapping[str, str]) -> None:
    """Fill the configuration in; a running Traefik takes the dynamic part over at once."""
    _rotate(instance.logs / "access.log")
    render(
        instance.home / "traefik",
        public_address=f"{instance.public_host}:{instance.ports['public']}",
        internal_address=f"127.0.0.1:{instance.ports['gateway_internal']}",
        problems_url=f"http://127.0.0.1:{instance.ports['problems']}",
        services={service: _replicas(instance, service) for service in SERVICES},
        access_log=instance.logs / "access.log",
        trusted_proxies=caller.get("VAJ_TRUSTED_PROXIES", ""),
        rate_per_s=int(caller.get("VAJ_GATEWAY_RATE_PER_S", RATE_PER_S)),
        rate_burst=int(caller.get("VAJ_GATEWAY_RATE_BURST", RATE_BURST)),
        body_bytes_max=int(caller.get("VAJ_BODY_BYTES_MAX", BODY_BYTES_MAX)),
    )


def _replicas(instance: Instance, service: str) -> Replicas:
    api, ops = instance.service_ports(service)
    return Replicas([f"http://127.0.0.1:{api}"], ops)


def _rotate(log: Path) -> None:
    """Traefik never turns its access log over; a start is when nobody writes to it."""
    if log.exists() and log.stat().st_size > ACCESS_LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.1"))


def command(instance: Instance) -> list[str]:
    """Traefik's command line."""
    traefik = Path(sys.executable).with_name("traefik")
    return [str(traefik), f"--configFile={instance.home / 'traefik' / 'traefik.yaml'}"]


def problems_command(instance: Instance) -> list[str]:
    """The command line of the server behind the gateway's own answers."""
    serve = ("--host", "127.0.0.1", "--port", str(instance.ports["problems"]), "--no-access-log", "--no-server-header")
    quiet = ("--log-level", "warning", "--timeout-keep-alive", "120", "--lifespan", "off")
    return [sys.executable, "-m", "uvicorn", "gateway.problems:app", *serve, *quiet]
