"""Gaps: a gated consumer waits for an event that does not come; its producer is asked to send it once more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from contracts.commands import RESEND_VERSIONS_MAX, Resend

from chassis.broker import BrokerUnavailable, Outgoing, PublishRefused
from chassis.consumer import ConsumerRunner, Order, Sender
from chassis.database import TRANSIENT_ERRORS
from chassis.kernel import new_id
from chassis.message_store import Gap
from chassis.telemetry import CONSUMER_GAPS, CONSUMER_PARKED, log
from contracts import topology

POLL_S = 5.0
RESEND_AFTER_S = 30.0  # most of what is early is early by milliseconds, or by the first steps of the retry ladder
ALERT_AFTER_S = 600.0
ASK_AGAIN_S, ASK_AGAIN_LATE_S = 30.0, 300.0  # the second once the alert is out
TIMEOUT_S = 86_400.0


class Gaps:
    """Looks after what is parked: lets pass whose turn has come, asks for what is missing, gives up after a day.

    What is missing because it waits in the ladder, or is a dead letter, is not asked for: its successors stay parked.
    """

    def __init__(
        self, runners: Sequence[ConsumerRunner], publisher: Sender, *, poll_s: float = POLL_S,
        resend_after_s: float = RESEND_AFTER_S,
    ) -> None:  # fmt: skip
        self._runners = [runner for runner in runners if runner.consumer.order is Order.GATED]
        self._publisher = publisher
        self._poll_s = poll_s
        self._resend_after_s = resend_after_s

    async def run(self) -> None:
        """Look after them until cancelled."""
        while True:
            try:
                for runner in self._runners:
                    await self.round(runner)
            except TRANSIENT_ERRORS as error:
                log.warning("gaps.postponed", error=repr(error))
            await asyncio.sleep(self._poll_s)

    async def round(self, runner: ConsumerRunner) -> None:
        """One look at everything parked for one consumer; a bounded number, the longest unasked first."""
        gaps = await runner.store.gaps(runner.consumer.name)
        for gap in gaps:
            await self._mend(runner, gap)
        open_ones = [gap for gap in gaps if gap.missing is None and gap.next_version > gap.version + 1]
        CONSUMER_PARKED.labels(runner.consumer.name).set(len(gaps))
        CONSUMER_GAPS.labels(runner.consumer.name).set(sum(gap.parked_s >= ALERT_AFTER_S for gap in open_ones))

    async def _mend(self, runner: ConsumerRunner, gap: Gap) -> None:
        if gap.next_version <= gap.version + 1:
            await runner.drain(gap.stream_id)
        elif gap.missing == "discarded":
            await runner.store.skip(runner.consumer.name, gap.stream_id, gap.version + 1)
            await runner.drain(gap.stream_id)
        elif gap.missing is None and gap.parked_s >= TIMEOUT_S:
            count = await runner.store.give_up_parked(runner.consumer.name, runner.queue, gap.stream_id)
            log.error("gap.timeout", consumer=runner.consumer.name, stream_id=str(gap.stream_id), count=count)
        elif gap.missing is None and gap.parked_s >= self._resend_after_s:
            await self._ask(runner, gap)

    async def _ask(self, runner: ConsumerRunner, gap: Gap) -> None:
        late = gap.parked_s >= ALERT_AFTER_S
        pause_s = ASK_AGAIN_LATE_S if late else min(ASK_AGAIN_S, self._resend_after_s)
        if not await runner.store.may_ask(runner.consumer.name, gap.stream_id, pause_s=pause_s):
            return
        first = gap.version + 1
        last = min(gap.next_version - 1, gap.version + RESEND_VERSIONS_MAX)
        command = Resend(queue=runner.queue, subject=gap.stream_id, from_version=first, to_version=last)
        tell = log.error if late else log.warning
        tell("gap.asked", consumer=runner.consumer.name, stream_id=str(gap.stream_id), first=first, last=last)
        try:
            await self._publisher.publish(
                Outgoing("", topology.control_queue(gap.producer), str(new_id()), command.model_dump_json().encode())
            )
        except (BrokerUnavailable, PublishRefused) as error:
            log.warning("gap.not_asked", producer=gap.producer, error=repr(error))
