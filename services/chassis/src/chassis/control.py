"""The control queue: others ask for facts once more, and get them on the one queue they named."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from contracts.commands import (
    RESEND_VERSIONS_MAX,
    CancelReplay,
    Command,
    NoCommand,
    Replay,
    Resend,
    command_of,
)
from contracts.topology import control_queue

from chassis import eventstore, replay
from chassis.broker import BrokerUnavailable, Incoming, Outgoing, Publisher, Subscription
from chassis.database import TRANSIENT_ERRORS, Database
from chassis.message_store import MessageStore
from chassis.replay import Streams
from chassis.repository import Fact
from chassis.telemetry import RESENT, log

NAME = "control"  # of its dead letters' consumer
PREFETCH = 20  # an answer may be a thousand facts
RETRY_S = 0.5
PASSING_ERRORS: tuple[type[Exception], ...] = (BrokerUnavailable, *TRANSIENT_ERRORS)


class Control:
    """Answers `contracts.commands`. Whoever asks asks again when an answer gets lost, so no answer is kept."""

    def __init__(
        self, service: str, streams: Streams, store: MessageStore, database: Database, publisher: Publisher
    ) -> None:
        self._queue = control_queue(service)
        self._streams = streams
        self._store = store
        self._database = database
        self._publisher = publisher

    @property
    def subscription(self) -> Subscription:
        """What the subscriber consumes for it."""
        return Subscription(queue=self._queue, handle=self.handle, prefetch=PREFETCH, batch_max=1)

    async def handle(self, batch: Sequence[Incoming]) -> None:
        """Return when every command is answered, or is a dead letter; waits for the own database and the broker."""
        for incoming in batch:
            while not await self._answered(incoming):
                await asyncio.sleep(RETRY_S)
                await self._publisher.ready.wait()

    async def _answered(self, incoming: Incoming) -> bool:
        try:
            await self._answer(command_of(incoming.body))
        except NoCommand as error:
            return await self._given_up(incoming, error, reason="undecodable")
        except PASSING_ERRORS as error:
            log.warning("control.postponed", error=repr(error))
            return False
        except Exception as error:  # a defect: waiting cannot mend it
            return await self._given_up(incoming, error, reason="permanent")
        return True

    async def _answer(self, command: Command) -> None:
        match command:
            case Resend():
                await self._resend(command)
            case Replay():
                async with self._database.command() as tx:
                    replay.ask(tx, command, now=datetime.now(UTC))
            case CancelReplay():
                async with self._database.command() as tx:
                    replay.cancel(tx, command)

    async def _resend(self, command: Resend) -> None:
        facts = await self._facts(command)
        messages = [Outgoing("", command.queue, str(fact.event_id), fact.body) for fact in facts]
        answers = await self._publisher.publish_all(messages)
        refused = [answer for answer in answers if answer is not None]
        if any(isinstance(answer, BrokerUnavailable) for answer in refused):
            raise BrokerUnavailable
        RESENT.inc(len(answers) - len(refused))
        log.info(
            "facts.resent", queue=command.queue, subject=str(command.subject), count=len(facts), refused=len(refused)
        )

    async def _facts(self, command: Resend) -> list[Fact]:
        rows = await eventstore.load(self._database.reading(), command.subject)
        for repository in self._streams.values():
            if rows and rows[0]["type"] in repository.types:
                last = min(command.to_version, command.from_version + RESEND_VERSIONS_MAX - 1)
                return list(repository.facts(rows, range(command.from_version, last + 1)))
        log.warning("facts.not_known", subject=str(command.subject))
        return []

    async def _given_up(self, incoming: Incoming, error: Exception, *, reason: str) -> bool:
        try:
            await self._store.give_up(
                incoming, error, consumer=NAME, queue=self._queue, reason=reason, attempts=1, stream=None
            )
        except TRANSIENT_ERRORS as failure:
            log.warning("control.postponed", error=repr(failure))
            return False
        return True
