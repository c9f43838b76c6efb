"""Replay: the facts of a whole event store, published once more to one queue, a page at a time, until the end mark."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.commands import REPLAY_HEADER, REPLAY_MARK_HEADER, CancelReplay, Replay, ReplayMark

from chassis import eventstore
from chassis.broker import BrokerUnavailable, Outgoing, Publisher
from chassis.crashpoints import reached
from chassis.database import TRANSIENT_ERRORS, Database, Row, Transaction
from chassis.kernel import new_id
from chassis.repository import VERSIONS, Fact, Repository
from chassis.telemetry import REPLAYED, log
from chassis.waking import woken

HINT = "replay"
PAGE_EVENTS = 1_000  # read at once
PAGE_FACTS = 200  # confirmed together; what a crash makes the consumer see twice
TURN_PAGES = 50  # then another replay that is due has its turn
QUEUE_DEPTH_MAX = 20_000  # a consumer further behind than this is left to catch up
LEASE_S = 15.0  # longer than a page takes, a confirm that comes late included
PAUSE_S = 1.0
POLL_S_MAX = 1.0
DAYS_KEPT = 30  # of what has ended
ERROR_CHARS_MAX = 2_000
PASSING_ERRORS: tuple[type[Exception], ...] = (BrokerUnavailable, *TRANSIENT_ERRORS)

Streams = Mapping[str, Repository[Any]]  # an aggregate's public name → where its events are
Told = tuple[UUID, Fact]  # the stream and what it announced

_ASK = """INSERT INTO replays (id, queue, aggregates, created_at, next_at) VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (id) DO NOTHING"""
_CANCEL = "UPDATE replays SET status = 'cancelled', owner = NULL WHERE id = $1 AND status = 'running'"
_CLAIM = """UPDATE replays SET owner = $1, next_at = now() + make_interval(secs => $2) WHERE id = (
    SELECT id FROM replays WHERE status = 'running' AND (next_at <= now() OR owner = $1) ORDER BY next_at LIMIT 1
    FOR UPDATE SKIP LOCKED)
RETURNING id, queue, aggregates, after_stream, after_version, sent, total"""
# Only by whom it is leased to: whoever overslept the lease finds that the replay went on without it.
_KEEP = """UPDATE replays SET after_stream = $3, after_version = $4, sent = $5, total = $6,
    next_at = now() + make_interval(secs => $7), owner = CASE WHEN $8 THEN owner END
WHERE id = $1 AND owner = $2 AND status = 'running' RETURNING id"""
_END = """UPDATE replays SET status = $3, error = $4, sent = $5, total = $6, owner = NULL
WHERE id = $1 AND owner = $2 AND status = 'running'"""

_FORGET = """DELETE FROM replays WHERE status <> 'running' AND next_at < now() - make_interval(days => $1)"""


def ask(tx: Transaction, command: Replay, *, now: datetime) -> None:
    """Queue a replay; one that is known already is not begun again."""
    tx.write(_ASK, command.replay_id, command.queue, command.aggregates, now)
    tx.hints.add(HINT)


def forget_ended(tx: Transaction) -> None:
    """Queue the removal of what ended long ago."""
    tx.write(_FORGET, DAYS_KEPT)


def cancel(tx: Transaction, command: CancelReplay) -> None:
    """Queue the end of a replay that nobody waits for."""
    tx.write(_CANCEL, command.replay_id)


class _NotOurs(Exception):
    """The lease ran out, or the replay was cancelled."""


class _QueueGone(Exception):
    """There is no queue any more."""


@dataclass(slots=True)
class _Progress:
    """A replay as its row tells it; `after` is the last fact that the broker has."""

    id: UUID
    queue: str
    repositories: list[Repository[Any]]
    after: tuple[UUID, int]
    sent: int
    total: int
    types: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.types = sorted({name for repository in self.repositories for name in repository.types})


class Replayer:
    """Moves replays on, as often interrupted as you like.

    Memory is bounded whatever the size of the store: a page of events and one aggregate. The place is kept after each
    confirmed page, so a crash repeats a page at most, and consumers recognise its ids. Several processes share the
    replays by leases; whoever sends on after its lease only repeats what was sent.
    """

    def __init__(self, producer: str, streams: Streams, database: Database, publisher: Publisher) -> None:
        self._producer = producer
        self._streams = streams
        self._database = database
        self._publisher = publisher
        self._owner = new_id()
        self._wake = asyncio.Event()
        self.page_facts = PAGE_FACTS
        self.queue_depth_max = QUEUE_DEPTH_MAX
        self.lease_s = LEASE_S
        database.listen(HINT, self._wake.set)

    async def run(self) -> None:
        """Replay until cancelled."""
        while True:
            try:
                await self._publisher.ready.wait()
                while await self.turn():
                    pass
            except PASSING_ERRORS as error:
                log.warning("replay.postponed", error=repr(error))
            await woken(self._wake, within_s=POLL_S_MAX)

    async def turn(self) -> bool:
        """Move the replay that is due on by some pages; False when none is."""
        async with self._database.command() as tx:
            row = await tx.fetchrow(_CLAIM, self._owner, self.lease_s)
        if row is None:
            return False
        repositories = [self._streams[name] for name in row["aggregates"] if name in self._streams]
        after = (row["after_stream"], row["after_version"])
        progress = _Progress(row["id"], row["queue"], repositories, after, row["sent"], row["total"])
        await self._advance(progress)
        return True

    async def _advance(self, progress: _Progress) -> None:
        try:
            if not progress.total:
                progress.total = await eventstore.count(self._database.reading(), progress.types)
            await self._some_pages(progress)
        except PASSING_ERRORS:
            raise
        except _NotOurs:
            log.info("replay.let_go", replay_id=str(progress.id))
        except _QueueGone:
            await self._end(progress, "cancelled", "the queue is gone")
        except Exception as error:  # a stream that cannot be told again: repeating would not help
            log.error("replay.failed", replay_id=str(progress.id), error=repr(error), exc_info=True)
            why = repr(error)[:ERROR_CHARS_MAX]
            await self._say(progress, [], ended=True, error=why)
            await self._end(progress, "failed", why)

    async def _some_pages(self, progress: _Progress) -> None:
        async with aclosing(self._pages(progress)) as pages:
            for _ in range(TURN_PAGES):
                if await self._is_full(progress.queue):
                    return await self._keep(progress, due_in_s=PAUSE_S, ours=False)
                page = await anext(pages, None)
                if page is None:
                    await self._say(progress, [], ended=True)
                    return await self._end(progress, "done")
                progress.sent += len(page)
                await self._say(progress, [fact for _, fact in page])
                reached("replay.page")
                progress.after = (page[-1][0], page[-1][1].version)
                await self._keep(progress, due_in_s=self.lease_s, ours=True)
                REPLAYED.inc(len(page))
        return await self._keep(progress, due_in_s=0, ours=False)

    async def _is_full(self, queue: str) -> bool:
        state = await self._publisher.look(queue)
        if state is None:
            raise _QueueGone
        return bool(state.ready > self.queue_depth_max)

    async def _say(
        self, progress: _Progress, facts: Sequence[Fact], *, ended: bool = False, error: str | None = None
    ) -> None:
        """Return when the broker has the facts and, behind them, a mark."""
        about = progress.sent if ended and error is None else max(progress.sent, progress.total)
        mark = ReplayMark(
            replay_id=progress.id, producer=self._producer, sent=progress.sent, total=about, ended=ended, error=error
        )
        replay_id = str(progress.id)
        messages = [
            *(Outgoing("", progress.queue, str(f.event_id), f.body, {REPLAY_HEADER: replay_id}) for f in facts),
            Outgoing(
                "", progress.queue, str(new_id()), mark.model_dump_json().encode(), {REPLAY_MARK_HEADER: replay_id}
            ),
        ]
        refused = [answer for answer in await self._publisher.publish_all(messages) if answer is not None]
        if refused:
            await self._is_full(progress.queue)  # one that is gone refuses for ever
            raise BrokerUnavailable(repr(refused[0]))

    async def _keep(self, progress: _Progress, *, due_in_s: float, ours: bool) -> None:
        async with self._database.command() as tx:
            kept = await tx.fetchval(
                _KEEP, progress.id, self._owner, *progress.after, progress.sent, progress.total, due_in_s, ours
            )
        if kept is None:
            raise _NotOurs

    async def _end(self, progress: _Progress, status: str, error: str | None = None) -> None:
        async with self._database.command() as tx:
            tx.write(_END, progress.id, self._owner, status, error, progress.sent, max(progress.sent, progress.total))
        log.info("replay.ended", replay_id=str(progress.id), status=status, sent=progress.sent)

    async def _pages(self, progress: _Progress) -> AsyncGenerator[list[Told]]:
        page: list[Told] = []
        async for told in self._facts(progress):
            page.append(told)
            if len(page) == self.page_facts:
                yield page
                page = []
        if page:
            yield page

    async def _facts(self, progress: _Progress) -> AsyncGenerator[Told]:
        """Every fact after a place; an aggregate that is half told is folded from its beginning, and told from there on."""
        after, of_type = progress.after, {name: r for r in progress.repositories for name in r.types}
        repository: Repository[Any] | None = None
        aggregate: Any = None
        async for save in self._saves(after[0]):
            stream_id: UUID = save[0]["stream_id"]
            if save[0]["version"] == 1:
                repository = of_type.get(save[0]["type"])
                aggregate = repository.unborn(stream_id) if repository else None
            if repository is not None:
                wanted = range(after[1] + 1, VERSIONS.stop) if stream_id == after[0] else VERSIONS
                for fact in repository.retell(aggregate, save, wanted):
                    yield stream_id, fact

    async def _saves(self, first: UUID) -> AsyncGenerator[list[Row]]:
        """The events from a stream on, by stream; what was appended together comes together."""
        place, held = (first, 0), list[Row]()
        while rows := await eventstore.read_streams(self._database.reading(), after=place, limit=PAGE_EVENTS):
            *whole, held = eventstore.saves([*held, *rows])
            for save in whole:
                yield save
            place = (rows[-1]["stream_id"], rows[-1]["version"])
        if held:
            yield held
