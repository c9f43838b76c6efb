"""What an instance of the stack keeps, whom it tells what, and how it fails."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from scripts.stack import SERVICES, PortBusy
from scripts.stack.environment import service_environment, settings, write_settings
from scripts.stack.failure import StackError
from scripts.stack.instance import Instance, open_instance
from scripts.stack.programs import STOP_ORDER, all_programs, existing_services
from scripts.stack.supervision import sweep, wait_until


def opened(home: Path, *, starting: bool = True, **environment: str) -> Instance:
    return open_instance(home, environment, starting=starting)


def test_ports_and_secrets_are_kept(tmp_path: Path) -> None:
    """A second start finds the ports and the secrets of the first."""
    first, second = opened(tmp_path), opened(tmp_path)

    assert (first.ports, first.secrets) == (second.ports, second.secrets)
    assert len(set(first.ports.values())) == len(first.ports)


def test_two_instances_share_nothing(tmp_path: Path) -> None:
    """Two instances have no secret in common."""
    one, other = opened(tmp_path / "one"), opened(tmp_path / "other")

    assert not set(one.secrets.values()) & set(other.secrets.values())


def test_a_taken_port_is_replaced(tmp_path: Path) -> None:
    """An inner port that somebody took meanwhile is chosen anew."""
    first = opened(tmp_path)
    with socket.create_server(("127.0.0.1", first.ports["redis"])):
        second = opened(tmp_path)

    assert second.ports["redis"] != first.ports["redis"]
    assert second.ports["postgres"] == first.ports["postgres"]


def test_a_taken_public_port_is_named(tmp_path: Path) -> None:
    """The public port is never chosen silently: when it is taken, the error names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(PortBusy, match=port):
            opened(tmp_path, VAJ_PORT=port)


def test_secrets_are_private(tmp_path: Path) -> None:
    """Files with secrets can be read by their owner only."""
    instance = opened(tmp_path)
    write_settings(instance)

    for name in ("secrets.json", "stack.env"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_the_caller_decides_settings_but_not_addresses(tmp_path: Path) -> None:
    """VAJ_* and OTEL_* of the caller reach every service; what the instance decides is not overridden."""
    caller = {
        "VAJ_RATE_PER_MINUTE": "9",
        "OTEL_X": "y",
        "VAJ_BROKER_URL": "amqp://other",
        "SHELL": "sh",
        "VAJ_PORT": "1",
    }

    told = service_environment(opened(tmp_path), "batches", caller)

    assert (told["VAJ_RATE_PER_MINUTE"], told["OTEL_X"]) == ("9", "y")
    assert told["VAJ_BROKER_URL"].startswith("amqp://vouajudar:")
    assert not {"SHELL", "VAJ_PORT"} & set(told)


def test_defaults_yield_to_the_caller(tmp_path: Path) -> None:
    """The networks webhooks may call are the loopback ones unless the caller says otherwise."""
    instance = opened(tmp_path)

    assert service_environment(instance, "webhooks", {})["VAJ_WEBHOOKS_ALLOWED_NETWORKS"] == "127.0.0.0/8,::1/128"
    assert (
        service_environment(instance, "webhooks", {"VAJ_WEBHOOKS_ALLOWED_NETWORKS": ""})[
            "VAJ_WEBHOOKS_ALLOWED_NETWORKS"
        ]
        == ""
    )


def test_secrets_are_told_to_those_who_need_them(tmp_path: Path) -> None:
    """Each service has its own key; the internal token is known to identity and notifications alone."""
    instance = opened(tmp_path)
    told = {service: service_environment(instance, service, {}) for service in SERVICES}

    assert len({one["VAJ_SECRET_KEY"] for one in told.values()}) == len(SERVICES)
    assert {name for name, one in told.items() if "VAJ_INTERNAL_TOKEN" in one} == {"identity", "notifications"}


def test_the_settings_file_is_for_shells(tmp_path: Path) -> None:
    """`stack.env` can be sourced and says the same as the Python API."""
    instance = opened(tmp_path)
    write_settings(instance)

    sourced = subprocess.run(
        ["sh", "-c", '. "$1"; env', "sh", str(tmp_path / "stack.env")],
        capture_output=True,
        text=True,
        check=True,
        env={},
    ).stdout.splitlines()

    assert {f"{name}={value}" for name, value in settings(instance).items()} <= set(sourced)


def test_everything_started_is_also_stopped(tmp_path: Path) -> None:
    """The stopping order names every program there is."""
    ordered = {name for names in STOP_ORDER for name in names}

    assert set(all_programs(opened(tmp_path), {})) <= ordered
    assert set(existing_services()) <= set(SERVICES)


def test_a_failure_shows_the_end_of_the_log(tmp_path: Path) -> None:
    """The error of a part carries the last lines it wrote."""
    log = tmp_path / "part.log"
    log.write_text("\n".join(f"line {number}" for number in range(100)))

    shown = StackError("part", "does not stay up", log=log).log_tail().splitlines()

    assert (shown[0], shown[-1], len(shown)) == ("line 75", "line 99", 25)


def test_processes_without_a_supervisor_are_swept_up(tmp_path: Path) -> None:
    """A process that carries the mark of the instance is killed, others are left alone."""
    marked, other = (
        subprocess.Popen(["sleep", "60"], env={**os.environ, "VAJ_STACK_HOME": str(home)})
        for home in (tmp_path, tmp_path / "other")
    )
    try:
        assert wait_until(lambda: b"sleep" in Path(f"/proc/{marked.pid}/cmdline").read_bytes(), 5)
        assert sweep(tmp_path) == [marked.pid]
        assert other.poll() is None
    finally:
        for process in (marked, other):
            process.kill()
            process.wait()
