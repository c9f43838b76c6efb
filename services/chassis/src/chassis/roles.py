"""One supervisor for everything a process does: start in order, stop on a signal or the first failure, in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from chassis.telemetry import log

STOP_TIMEOUT_S = 10  # each role gets this long to finish what is under way
TICKS_PER_S = 10  # uvicorn's own count
KEEP_ALIVE_S = 120  # longer than the gateway keeps idle connections, else it meets closed ones


_SERVER: dict[str, Any] = {
    "loop": "uvloop",
    "http": "httptools",
    "ws": "none",
    "lifespan": "off",
    "access_log": False,  # the edge has it
    "log_config": None,
    "server_header": False,
    "proxy_headers": False,
    "timeout_keep_alive": KEEP_ALIVE_S,
}


@dataclass(frozen=True)
class Role:
    """Something that runs until cancelled."""

    name: str
    run: Callable[[], Awaitable[None]]


class _Server(uvicorn.Server):
    """Uvicorn looks ten times a second whether it should leave; here it looks once, and is told."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Finish what is under way and stop."""
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        """Keep the Date header current until told to leave."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += TICKS_PER_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._leaving.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The supervisor owns the signals."""
        yield


def http_role(name: str, app: ASGIApp, *, host: str, port: int) -> Role:
    """Serve an ASGI app; on the way out, finish the requests under way."""

    async def run() -> None:
        config = uvicorn.Config(app, host=host, port=port, timeout_graceful_shutdown=STOP_TIMEOUT_S - 2, **_SERVER)
        server = _Server(config)
        serving = asyncio.ensure_future(server.serve())
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.leave()
            await serving
            raise

    return Role(name, run)


async def supervise(roles: Sequence[Role]) -> int:
    """Run all roles; returns 0 after SIGTERM or SIGINT, 1 when a role failed. The last started is the first stopped."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = {role.name: asyncio.create_task(_named(role), name=role.name) for role in roles}
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, *tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
    failed = [name for name, task in tasks.items() if task.done()]
    log.info("process.stopping", failed=failed)
    for name, task in reversed(tasks.items()):
        task.cancel()
        _, pending = await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
        if pending:
            log.warning("role.cut", role=name)
    stopping.cancel()
    return 1 if failed else 0


async def _named(role: Role) -> None:
    try:
        await role.run()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        log.error("role.failed", role=role.name, error=repr(error), exc_info=True)
        raise
