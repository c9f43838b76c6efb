"""Who commits: commands that append events and queue their messages; and the answer to who misses some."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from contracts.commands import Command, Resend
from contracts.events.identity import UserSessionEnded, UserSuspended
from contracts.topology import exchange

from chassis.broker import Publisher
from chassis.control import Control
from chassis.outbox import Announcement, envelope_bytes
from chassis.repository import Fact
from chassis.testing.simulation.broker import SimulatedPublisher
from chassis.testing.simulation.database import Database
from chassis.testing.simulation.schedule import Change
from chassis.testing.simulation.stores import SimulatedMessages
from chassis.testing.simulation.world import Process, World

AGAIN_S = 0.2  # a command whose commit failed
TIME = datetime(2026, 1, 1, tzinfo=UTC)


class Producer:
    """Commits the changes of a schedule."""

    def __init__(self, world: World, database: Database, subjects: Sequence[UUID], service: str) -> None:
        self._world = world
        self._database = database
        self._subjects = subjects
        self._exchange = exchange(service)
        self._waiting: list[list[Change]] = [[] for _ in subjects]

    @property
    def unfinished(self) -> int:
        """Changes that are neither committed nor rolled back."""
        return sum(map(len, self._waiting))

    def command(self, change: Change) -> None:
        """Those of one aggregate follow each other: the next sees the versions of the one before."""
        self._waiting[change.subject].append(change)
        if len(self._waiting[change.subject]) == 1:
            self._begin(change)

    def _begin(self, change: Change) -> None:
        """The rows have their ids of the outbox now, and are seen by nobody until the commit."""
        subject = self._subjects[change.subject]
        first = 1 + self._database.tables.versions.get(subject, 0)
        facts = [self._fact(subject, version, announced) for version, announced in enumerate(change.announced, first)]
        rows = [
            self._database.row(subject, fact.event_id, self._exchange, fact.routing_key, fact.body) for fact in facts
        ]
        self._world.loop.happen(change.lasts_s, self._finish, change, facts, rows)

    def _fact(self, subject: UUID, version: int, announced: bool) -> Fact:
        """Only some events of an aggregate are handled by consumers; the others move gated ones on."""
        event = UserSuspended(user_id=subject) if announced else UserSessionEnded(user_id=subject, session_id=subject)
        event_id = self._world.new_id()
        self._world.names[str(event_id)] = f"{self._world.names[str(subject)]}{version}"
        body = envelope_bytes(Announcement(event), subject, event_id, version, TIME)
        return Fact(event_id, version, event.routing_key(), body)

    def _finish(self, change: Change, facts: Sequence[Fact], rows: Sequence[dict[str, object]]) -> None:
        if self._database.down:
            self._world.loop.happen(AGAIN_S, self._begin, change)
            return
        if not change.rolled_back:
            self._database.append(self._subjects[change.subject], facts, rows)
        waiting = self._waiting[change.subject]
        waiting.pop(0)
        if waiting:
            self._begin(waiting[0])


class AnswersFromEvents(Control):
    """`chassis.control.Control` on the simulated events; now and then a command is not heard."""

    def __init__(self, process: Process, database: Database, publisher: SimulatedPublisher, service: str) -> None:
        store = SimulatedMessages(database, process)
        super().__init__(service, {}, store, cast("Any", None), cast("Publisher", publisher))
        self._process = process
        self._events = database

    async def _answer(self, command: Command) -> None:
        if not self._process.world.chance(self._process.world.weather.unheard):
            await super()._answer(command)

    async def _facts(self, command: Resend) -> list[Fact]:
        wanted = [(command.subject, version) for version in range(command.from_version, command.to_version + 1)]
        events = self._events.tables.events
        return await self._events.ask(self._process, lambda: [events[key] for key in wanted if key in events])
