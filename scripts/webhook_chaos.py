"""`scripts/chaos --webhooks N`: messages to endpoints while their worker is killed again and again, broker and database once.

Every message has to arrive; twice only what was under way when something was killed, and under the same `webhook-id`.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import asyncpg
from chassis.database import TRANSIENT_ERRORS, Database
from chassis.kernel import ConcurrentUpdate, new_id
from chassis.testing.processes import Process

from scripts.benchmarks.sink import sink
from scripts.chaos import killed_and_back
from scripts.stack import REPOSITORY, Stack
from scripts.webhook_rig import Rig, a_producer, commit, environment, opened

ORGANIZATIONS, ENDPOINTS_EACH = 10, 10
KILL_EVERY_S = 5.0
COMMITTING = 16
AHEAD_MAX = 20_000  # messages committed and not received: so that kills fall on all of the way, not on its end
REST_S_MAX = 300.0
TIMEOUT_S = 1  # of the endpoints: a killed worker's leases end five seconds later
AGAIN_ERRORS: tuple[type[Exception], ...] = (ConcurrentUpdate, *TRANSIENT_ERRORS)
_SETTLED = "SELECT count(*) FROM webhook_messages WHERE status = 'delivered'"
_UNDER_WAY = "SELECT id, lease_id FROM webhook_messages WHERE status = 'delivering'"


@dataclass(frozen=True)
class Balance:
    """What a run came to."""

    messages: int
    posts: int
    lost: int
    doubles: int
    under_way: int
    settled: int

    @property
    def holds(self) -> bool:
        """Nothing was lost, no more came twice than was under way, and the database says the same."""
        return not self.lost and self.doubles <= self.under_way and self.settled == self.messages

    def __str__(self) -> str:
        return (
            f"messages {self.messages}; delivered {self.settled}; posts {self.posts}; lost {self.lost}, "
            f"doubles {self.doubles}, in flight at the kills {self.under_way}"
        )


@dataclass
class WebhookChaos:
    """One run: events are committed, the worker killed, the servers restarted, until everything has arrived."""

    stack: Stack
    rig: Rig
    producer: Database
    worker: Process
    messages: int
    kill_every_s: float = KILL_EVERY_S
    kills: int = 0
    under_way: set[tuple[UUID, UUID]] = field(default_factory=set)  # messages and their leases at the kills
    restarts: list[str] = field(default_factory=list)
    events: dict[UUID, UUID] = field(default_factory=dict)  # committed, with the organization of each
    posts: Counter[tuple[str, str]] = field(default_factory=Counter)

    async def run(self) -> Balance:
        """Until every message was received and recorded, or it has taken too long."""
        self.worker.start()
        async with asyncio.TaskGroup() as group:
            breaking = group.create_task(self._kill_again_and_again())
            restarting = group.create_task(self._restart_servers())
            await self._commit_all()
            await restarting
            deadline = time.monotonic() + REST_S_MAX
            while await self._settled() < self.messages and time.monotonic() < deadline:
                await asyncio.sleep(0.2)
                self._look()
            breaking.cancel()
        self.worker.kill()
        self._look()
        return await self._balance()

    async def _commit_all(self) -> None:
        wanted = iter(range(self.messages // ENDPOINTS_EACH))
        organizations = self.rig.organizations

        async def commit_some() -> None:
            for number in wanted:
                while len(self.events) * ENDPOINTS_EACH - len(self.posts) > AHEAD_MAX:
                    await asyncio.sleep(0.05)
                    self._look()
                await self._commit(organizations[number % ORGANIZATIONS])

        async with asyncio.TaskGroup() as group:
            for _ in range(COMMITTING):
                group.create_task(commit_some())

    async def _commit(self, organization_id: UUID) -> None:
        event_id = new_id()
        while True:  # whether a commit that got no answer had its effect nobody knows: the same event once more
            try:
                await commit(self.producer, organization_id, event_id)
            except AGAIN_ERRORS:
                await asyncio.sleep(0.1)
            else:
                self.events[event_id] = organization_id
                return

    async def _kill_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self.kill_every_s)
            self.worker.kill()
            self.kills += 1
            await self._note_under_way()
            self.worker.start()

    async def _restart_servers(self) -> None:
        for share, server in ((1 / 3, "rabbitmq"), (2 / 3, "postgres")):
            while len(self.posts) < share * self.messages:
                await asyncio.sleep(0.1)
                self._look()
            await killed_and_back(self.stack, server)
            if server == "postgres":  # what had arrived and could not be recorded in time comes again
                await self._note_under_way()
            self.restarts.append(server)

    def _look(self) -> None:
        self.posts.update((post.target, post.webhook_id) for post in self.rig.sink.taken())

    async def _note_under_way(self) -> None:
        self.under_way.update((row["id"], row["lease_id"]) for row in await self._rows(_UNDER_WAY))

    async def _settled(self) -> int:
        [row] = await self._rows(_SETTLED)
        return int(row[0])

    async def _rows(self, query: str) -> list[asyncpg.Record]:
        while True:
            try:
                connection = await asyncpg.connect(self.rig.database.url)
                try:
                    found: list[asyncpg.Record] = await connection.fetch(query)
                    return found
                finally:
                    await connection.close()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # it is being restarted
                await asyncio.sleep(0.1)

    async def _balance(self) -> Balance:
        targets: dict[UUID, list[str]] = {}
        for number, endpoint in enumerate(self.rig.endpoints):
            targets.setdefault(endpoint.organization_id, []).append(f"/take/{number}")
        wanted = {(target, str(event)) for event, owner in self.events.items() for target in targets[owner]}
        return Balance(
            messages=len(wanted),
            posts=self.posts.total(),
            lost=len(wanted - self.posts.keys()),
            doubles=self.posts.total() - len(self.posts),
            under_way=len(self.under_way),
            settled=await self._settled(),
        )


async def run(stack: Stack, messages: int, *, kill_every_s: float = KILL_EVERY_S) -> tuple[WebhookChaos, Balance]:
    """One run on a stack whose servers are up."""
    with sink() as receiving:
        async with opened(
            stack, receiving, organizations=ORGANIZATIONS, endpoints_each=ENDPOINTS_EACH, timeout_s=TIMEOUT_S
        ) as rig:
            return await _run_on(stack, rig, messages, kill_every_s)


async def _run_on(stack: Stack, rig: Rig, messages: int, kill_every_s: float) -> tuple[WebhookChaos, Balance]:
    told = environment(stack, rig) | {"VAJ_LOG_LEVEL": "WARNING"}
    log = Path(tempfile.mkdtemp(prefix="chaos-", dir=stack.home)) / "webhooks.log"
    worker = Process("chassis.testing.crashing", ["webhooks", "worker"], told, name="webhooks", log=log)
    async with a_producer(stack, rig) as producer:
        try:
            chaos = WebhookChaos(stack, rig, producer, worker, messages, kill_every_s)
            return chaos, await chaos.run()
        finally:
            worker.kill()


def main() -> int:
    """0 when nothing was lost and no more came twice than was under way."""
    parser = argparse.ArgumentParser(prog="scripts/chaos --webhooks", description=__doc__)
    parser.add_argument("messages", type=int, nargs="?", default=100_000)
    told = parser.parse_args()
    stack = Stack(REPOSITORY / ".local/chaos")
    stack.down()
    shutil.rmtree(stack.home, ignore_errors=True)
    began = time.monotonic()
    try:
        stack.up(infrastructure_only=True)
        chaos, balance = asyncio.run(run(stack, told.messages))
    finally:
        stack.down()
    print(f"{time.monotonic() - began:.0f} s; kills {chaos.kills}; restarts {', '.join(chaos.restarts)}")
    print(balance)
    return 0 if balance.holds else 1


if __name__ == "__main__":
    sys.exit(main())
