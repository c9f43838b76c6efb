"""Real processes in large numbers: forked from one that has loaded the libraries, so that a start takes 0.1 s, not 3 s."""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx

from chassis.testing.patience import eventually

PRELOADED = ("chassis.testing.ledger", "chassis.testing.crashing")
STOP_S_MAX = 30
READY_S_MAX = 30

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(list(PRELOADED))


class Process:
    """`module.main(arguments)` in a process of its own, which dies with the one that started it; startable again."""

    def __init__(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], *, name: str, log: Path
    ) -> None:
        self.name = name
        self.log = log
        self.starts = 0
        self.environment = dict(environment)
        self._target = (module, list(arguments))
        self._process: BaseProcess | None = None
        log.touch()

    def start(self, **environment: str) -> None:
        """Start; what is given here holds for this life only."""
        module, arguments = self._target
        told = self.environment | environment
        self._process = _FORKS.Process(target=_live, args=(module, arguments, told, str(self.log)), daemon=True)
        self._process.start()
        self.starts += 1

    @property
    def alive(self) -> bool:
        """Started, and neither ended nor killed."""
        return self._process is not None and self._process.is_alive()

    @property
    def exit_code(self) -> int | None:
        """As the operating system tells it, negative for a signal; None while it lives."""
        return None if self._process is None else self._process.exitcode

    @property
    def url(self) -> str:
        """Its internal port: health and the probe's own routes."""
        return f"http://127.0.0.1:{self.environment['VAJ_OPS_PORT']}"

    @property
    def api_url(self) -> str:
        """Its public port."""
        return f"http://127.0.0.1:{self.environment['VAJ_API_PORT']}"

    def signal(self, sign: signal.Signals) -> None:
        """Send a signal, if it lives."""
        if self._process is not None and self._process.pid is not None and self.alive:
            os.kill(self._process.pid, sign)

    def kill(self) -> None:
        """As a crash: nothing is finished, nothing is said."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.join(STOP_S_MAX)

    def pause(self) -> None:
        """As a machine that stands still: connections stay, clocks go on."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on where it was paused."""
        self.signal(signal.SIGCONT)

    async def stop(self) -> int:
        """Ask it to leave and wait; returns its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended(timeout_s=STOP_S_MAX)

    async def ended(self, *, timeout_s: float = STOP_S_MAX) -> int:
        """Wait until it is gone, by itself or by a crash; returns its exit code."""
        await eventually(lambda: not self.alive, timeout_s=timeout_s)
        code = self.exit_code
        return 0 if code is None else code

    @property
    def paused(self) -> bool:
        """Whether it stands still, at a place where it was told to or by `pause`."""
        if self._process is None or self._process.pid is None or not self.alive:
            return False
        state = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state in ("T", "t")

    async def ready(self, *, timeout_s: float = READY_S_MAX) -> None:
        """Wait until `/readyz` says so."""
        async with httpx.AsyncClient(timeout=2) as client:
            await eventually(lambda: self._says_ready(client), timeout_s=timeout_s)

    async def _says_ready(self, client: httpx.AsyncClient) -> None:
        assert self.alive, f"{self.name} ended with {self.exit_code}:\n{self.log.read_text()[-4000:]}"
        try:
            answer = await client.get(f"{self.url}/readyz")
        except httpx.HTTPError as error:
            raise AssertionError(f"{self.name}: {error!r}\n{self.log.read_text()[-2000:]}") from error
        assert answer.status_code == 200, f"{self.name}: {answer.text}"


def _live(module: str, arguments: Sequence[str], environment: Mapping[str, str], log: str) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.update(environment)
    importlib.import_module(module).main(arguments)


def _die_with_parent() -> None:
    """The process that forked this one lives as long as this one: only the one that wanted it tells when it is over."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


async def stop_all(processes: Sequence[Process]) -> list[int]:
    """Ask all of them to leave, together; their exit codes."""
    return list(await asyncio.gather(*(process.stop() for process in processes)))
