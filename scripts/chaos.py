"""Events through random kills of every process, one broker restart and one database restart; then the ledger must balance.

`python -m scripts.chaos --events 100000 --seconds 600 [--seed N]` on servers of its own; exits 1 unless nothing was
lost, doubled or out of order and everything came to rest.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
from chassis.kernel import new_id
from chassis.testing.judge import Verdict
from chassis.testing.patience import eventually
from chassis.testing.processes import Process
from chassis.testing.rig import Rig, Servers, made_databases, opened_rig

from scripts.stack import REPOSITORY, Stack

PRODUCERS, WORKERS = 2, 3
STREAMS = 500
STREAMS_AT_ONCE, EVENTS_AT_ONCE_MAX = 10, 3
KILL_PAUSE_S = (1.0, 5.0)
REST_S_MAX = 900.0
REPORT_S = 15.0
BACK_S_MAX = 120.0
QUIET = {"log_level": "ERROR"}


@dataclass
class Chaos:
    """One run: `feed` and `kill` at once, `restart_servers` in the middle, then rest."""

    rig: Rig
    stack: Stack
    events: int
    seconds: float
    seed: int
    kill_pause_s: tuple[float, float] = KILL_PAUSE_S
    kills: Counter[str] = field(default_factory=Counter)
    restarts: list[str] = field(default_factory=list)
    sent: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - repeatable on purpose
        self._streams = [new_id() for _ in range(min(STREAMS, self.events // 10))]
        self._producers = [self.rig.process("producer", keep=True, **QUIET) for _ in range(PRODUCERS)]
        self._workers = [self.rig.process("consumer", keep=True, **QUIET) for _ in range(WORKERS)]

    async def run(self) -> Verdict:
        """Raises AssertionError with the offending ids when the ledger does not balance."""
        for process in self.processes:
            process.start()
        async with asyncio.TaskGroup() as group:  # a server that does not come back ends the run
            breaking = [group.create_task(act) for act in (self._kill(), self._report())]
            restarting = group.create_task(self._restart_servers())
            await self._feed()
            await restarting
            for task in breaking:
                task.cancel()
        return await self.rig.at_rest(timeout_s=REST_S_MAX)

    @property
    def processes(self) -> list[Process]:
        """All that may be killed."""
        return [*self._producers, *self._workers]

    async def _feed(self) -> None:
        """Append at an even rate until there are enough; a request that got no answer may have had its effect or not."""
        began = time.monotonic()
        async with httpx.AsyncClient(timeout=30) as client:
            while self.sent < self.events:
                if self.sent / self.events <= (time.monotonic() - began) / self.seconds:
                    self.sent += await self._append(client)
                else:
                    await asyncio.sleep(0.01)
                if self.sent >= self.events:
                    self.sent = await self._count()

    async def _report(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(REPORT_S)
            print(f"{time.monotonic() - began:6.0f} s  sent {self.sent}, kills {self.kills.total()}", flush=True)

    async def _append(self, client: httpx.AsyncClient) -> int:
        streams = self._random.sample(self._streams, STREAMS_AT_ONCE)
        events = self._random.randint(1, EVENTS_AT_ONCE_MAX)
        body = {"streams": [str(one) for one in streams], "events": events}
        try:
            answer = await client.post(f"{self._random.choice(self._producers).url}/append", json=body)
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            return 0
        return len(streams) * events if answer.is_success else 0

    async def _count(self) -> int:
        while True:
            try:
                return await self.rig.count("producer", "events")
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # it is being restarted
                await asyncio.sleep(0.2)

    async def _kill(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(*self.kill_pause_s))
            victim = self._random.choice(self.processes)
            if victim.alive:
                self.kills[victim.name] += 1
                victim.kill()

    async def _restart_servers(self) -> None:
        for share, server in ((1 / 3, "rabbitmq"), (2 / 3, "postgres")):
            while self.sent < share * self.events:
                await asyncio.sleep(0.1)
            await killed_and_back(self.stack, server)
            self.restarts.append(server)


async def killed_and_back(stack: Stack, server: str) -> None:
    """Kill a server; return when the one that took its place is ready.

    It may fall over a few times before: what the one before left alive holds on to its data for a moment.
    """
    killed = await asyncio.to_thread(stack.kill, server)

    def back() -> bool:
        return stack.states()[server].pid != killed and stack.is_up([server])

    await eventually(lambda: asyncio.to_thread(back), timeout_s=BACK_S_MAX)


async def run(stack: Stack, *, events: int, seconds: float, seed: int) -> int:
    """One run on a stack that is up; 0 when the ledger balances."""
    settings = stack.settings
    servers = Servers(settings["VAJ_DATABASE_ADMIN_URL"], settings["VAJ_BROKER_URL"], settings["VAJ_REDIS_URL"])
    logs = Path(tempfile.mkdtemp(prefix="chaos-", dir=stack.home))
    began = time.monotonic()
    async with made_databases(servers, logs) as databases, opened_rig(servers, databases, logs) as rig:
        chaos = Chaos(rig, stack, events, seconds, seed)
        try:
            verdict = await chaos.run()
        except AssertionError as error:
            print(f"{error}\nlogs: {logs}")
            return 1
        finally:
            kills = ", ".join(f"{name} {count}" for name, count in sorted(chaos.kills.items()))
            print(f"kills {chaos.kills.total()} ({kills}); restarts {', '.join(chaos.restarts)}")
            print(f"{time.monotonic() - began:.0f} s, seed {seed}", flush=True)
    print(verdict)
    return 0


def main() -> int:
    """0 when nothing was lost, doubled or out of order."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=600, help="over which they are sent")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    told = parser.parse_args()
    print(f"chaos: {told.events} events over {told.seconds:.0f} s, seed {told.seed}", flush=True)
    stack = Stack(REPOSITORY / ".local/chaos")
    stack.down()
    shutil.rmtree(stack.home, ignore_errors=True)
    try:
        stack.up(infrastructure_only=True)
        return asyncio.run(run(stack, events=told.events, seconds=told.seconds, seed=told.seed))
    finally:
        stack.down()


if __name__ == "__main__":
    sys.exit(main())
