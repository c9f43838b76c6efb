"""The processes of an instance under supervisord: configuration, control over its socket, and a sweep after it is gone."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from scripts.stack.environment import base_environment
from scripts.stack.instance import REPOSITORY, Instance, write_private
from scripts.stack.programs import Program, log_of

RUNNING, BACKOFF, FATAL = "RUNNING", "BACKOFF", "FATAL"
ALIVE = {RUNNING, BACKOFF, "STARTING", "STOPPING"}
SUPERVISOR_START_S = 15.0
POLL_S = 0.05
LOG_BYTES_MAX = "10MB"
LOG_TURNS = 2
HEADER = """\
[supervisord]
nodaemon=false
directory={directory}
pidfile={home}/supervisord.pid
logfile={home}/logs/supervisord.log
logfile_maxbytes=2MB
logfile_backups=1
loglevel=info
identifier=vouajudar
{user}
[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
PROGRAM = """
[program:{name}]
command={command}
environment={environment}
autostart=false
autorestart=true
startsecs=1
startretries=20
stopsignal={stop_signal}
stopwaitsecs={stop_wait_s}
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes={log_bytes}
stdout_logfile_backups={log_turns}
"""


@dataclass(frozen=True)
class State:
    """What the supervisor knows of one program."""

    name: str
    state: str
    pid: int
    since_s: int
    problem: str


class Supervisor:
    """The supervisord of one instance."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance

    def is_running(self) -> bool:
        """Whether it answers on its socket."""
        try:
            self._call("getPID")
        except OSError:
            return False
        return True

    def start(self, programs: Iterable[Program], caller: Mapping[str, str]) -> None:
        """Have it running and knowing these programs as they are now; nothing is started or restarted by this."""
        write_private(self.instance.home / "supervisord.conf", _configuration(self.instance, programs))
        if self.is_running():
            self._reload()
            return
        self.instance.socket.unlink(missing_ok=True)
        configuration = str(self.instance.home / "supervisord.conf")
        subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", configuration],
            env=base_environment(self.instance, caller),
            check=True,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
        )
        if not wait_until(self.is_running, SUPERVISOR_START_S):
            raise TimeoutError(f"supervisord does not answer; see {self.instance.logs / 'supervisord.log'}")

    def states(self) -> dict[str, State]:
        """Every program it knows, by name."""
        if not self.is_running():
            return {}
        known = self._call("getAllProcessInfo")
        return {one["name"]: _state(one) for one in known}

    def launch(self, name: str) -> None:
        """Start one program, without waiting for it; one that is up already is left alone."""
        with contextlib.suppress(xmlrpc.client.Fault):
            self._call("startProcess", name, False)

    def stop(self, names: Iterable[str]) -> None:
        """Stop programs together and wait until all are gone."""
        wanted = [name for name, state in self.states().items() if name in set(names) and state.state in ALIVE]
        for name in wanted:
            with contextlib.suppress(xmlrpc.client.Fault):
                self._call("stopProcess", name, False)
        wait_until(lambda: not any(self.states()[name].state in ALIVE for name in wanted), 60.0)

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a program and everything it started; returns its process id."""
        pid = self.states()[name].pid
        if pid > 0:
            os.killpg(pid, number)
        return pid

    def shut_down(self) -> None:
        """End the supervisor itself."""
        if not self.is_running():
            return
        pid = int(self._call("getPID"))
        self._call("shutdown")
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), 90.0)

    def _reload(self) -> None:
        added, changed, removed = self._call("reloadConfig")[0]
        alive = {name for name, state in self.states().items() if state.state in ALIVE}
        for name in {*changed, *removed} - alive:
            self._call("removeProcessGroup", name)
        for name in {*added, *changed} - alive:
            self._call("addProcessGroup", name)

    def _call(self, method: str, *arguments: object) -> Any:
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self.instance.socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
            return getattr(server.supervisor, method)(*arguments)


def _state(known: Mapping[str, Any]) -> State:
    since = known["now"] - known["start"]
    return State(known["name"], known["statename"], known["pid"], since, known["spawnerr"])


def _configuration(instance: Instance, programs: Iterable[Program]) -> str:
    user = "user=root\n" if os.geteuid() == 0 else ""
    header = HEADER.format(
        directory=_literal(str(REPOSITORY)), home=_literal(str(instance.home)), socket=instance.socket, user=user
    )
    return header + "".join(_program(instance, program) for program in programs)


def _program(instance: Instance, program: Program) -> str:
    environment = ",".join(f'{name}="{_quoted(value)}"' for name, value in program.environment.items())
    return PROGRAM.format(
        name=program.name,
        command=_literal(shlex.join(program.command)),
        environment=environment,
        stop_signal=program.stop_signal,
        stop_wait_s=program.stop_wait_s,
        log=_literal(str(log_of(instance, program.name))),
        log_bytes=LOG_BYTES_MAX,
        log_turns=LOG_TURNS,
    )


def _quoted(value: str) -> str:
    return _literal(value.replace("\\", "\\\\").replace('"', '\\"'))


def _literal(value: str) -> str:
    """The supervisor expands `%(...)s` in its file."""
    return value.replace("%", "%%")


def sweep(home: Path) -> list[int]:
    """Kill what is left of an instance although its supervisor is gone; returns the process ids."""
    mark = f"VAJ_STACK_HOME={home}".encode()
    left = [pid for pid in _process_ids() if pid != os.getpid() and mark in _environment_of(pid)]
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(_is_alive(pid) for pid in left), 5.0)
    return left


def _process_ids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(happened: Callable[[], bool], timeout_s: float) -> bool:
    """Ask again and again until it has happened; False when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True
