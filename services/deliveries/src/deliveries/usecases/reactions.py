"""What other services' facts and due timers mean for deliveries; late and repeated ones change nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from uuid import UUID

from chassis.database import Transaction
from chassis.processes import Process, ProcessKind

from deliveries import repository
from deliveries.domain import BatchId, Delivery, LineId, Spoilage, Status, UserId
from deliveries.repository import DELIVERIES
from deliveries.usecases.asking import Policy
from deliveries.usecases.saving import save, set_timers

REACHED_SHOWN_MAX = 200  # an operator who needs more of them asks for the batch's deliveries


async def grant_hold(tx: Transaction, policy: Policy, *, delivery_id: UUID, line_id: UUID, now: datetime) -> None:
    """Batches set a line's goods aside."""
    delivery = await DELIVERIES.get(tx, delivery_id)
    delivery.grant_hold(LineId(line_id), now=now)
    save(tx, delivery, min_handling=policy.min_handling, now=now)


async def reject_hold(
    tx: Transaction, policy: Policy, *, delivery_id: UUID, line_id: UUID, reason: str, now: datetime
) -> None:
    """Batches could not."""
    delivery = await DELIVERIES.get(tx, delivery_id)
    delivery.reject_hold(LineId(line_id), reason=reason)
    save(tx, delivery, min_handling=policy.min_handling, now=now)


@dataclass
class Reached:
    """What became of the deliveries that a fact of elsewhere reached: how many are what now, and some of them."""

    became: dict[str, int] = field(default_factory=dict)
    delivery_ids: list[UUID] = field(default_factory=list)


# One step each, which commits as a whole: what is kept is whom it reached.
RECALL, EXPIRY = ProcessKind("recall", Reached), ProcessKind("expiry", Reached)
SUSPENSION = ProcessKind("suspension", Reached)


async def batch_spoiled(
    tx: Transaction, policy: Policy, *, batch_id: UUID, cause: Spoilage, version: int, now: datetime
) -> None:
    """A batch expired or was recalled: every unfinished delivery with goods of it is told, once for each such fact."""
    kind = RECALL if cause is Spoilage.RECALLED else EXPIRY
    process = await kind.begin(tx, batch_id, run=version, state=Reached(), deadline=None, now=now)
    if process is not None:
        of_batch = partial(repository.unfinished_of_batch, tx, batch_id)
        spoil = partial(_spoil, batch_id=BatchId(batch_id), cause=cause)
        _keep(tx, kind, process, await _each(tx, policy, of_batch, spoil, now=now), now=now)


async def organization_gone(
    tx: Transaction, policy: Policy, *, organization_id: UUID, reason: str, version: int, now: datetime
) -> None:
    """A party was suspended or closed: what nobody picked up yet is called off, once for each such fact."""
    process = await SUSPENSION.begin(tx, organization_id, run=version, state=Reached(), deadline=None, now=now)
    if process is not None:
        of_party = partial(repository.waiting_of_party, tx, organization_id)
        reached = await _each(tx, policy, of_party, lambda delivery: _cancel(delivery, reason), now=now)
        _keep(tx, SUSPENSION, process, reached, now=now)


async def volunteer_suspended(tx: Transaction, policy: Policy, *, user_id: UUID, now: datetime) -> None:
    """A suspended volunteer claims no more and waits for nothing; what they did not pick up yet is open again."""
    repository.suspend_volunteer(tx, user_id)
    await tx.flush()
    waited_for = partial(repository.waited_for_by, tx, user_id)
    await _each(tx, policy, waited_for, lambda delivery: delivery.leave_waiting_list(UserId(user_id)), now=now)
    await _each(tx, policy, partial(repository.claimed_by, tx, user_id), _release_suspended, now=now)


async def expire(tx: Transaction, policy: Policy, *, delivery_id: UUID, now: datetime) -> None:
    """The safe time of an open or claimed delivery may be over; a timer that came early is set again."""
    delivery = await DELIVERIES.get(tx, delivery_id)
    delivery.expire(now=now, min_handling=policy.min_handling)
    _after_timer(tx, policy, delivery, now)


async def release_unconfirmed(tx: Transaction, policy: Policy, *, delivery_id: UUID, now: datetime) -> None:
    """A claim may have gone unconfirmed; a timer that came early is set again."""
    delivery = await DELIVERIES.get(tx, delivery_id)
    delivery.release_unconfirmed(now=now)
    _after_timer(tx, policy, delivery, now)


def _after_timer(tx: Transaction, policy: Policy, delivery: Delivery, now: datetime) -> None:
    if delivery.pending:
        save(tx, delivery, min_handling=policy.min_handling, now=now)
    else:
        set_timers(tx, delivery, min_handling=policy.min_handling)


async def _each(
    tx: Transaction,
    policy: Policy,
    find: Callable[[], Awaitable[list[UUID]]],
    decide: Callable[[Delivery], None],
    *,
    now: datetime,
) -> list[Delivery]:
    """Decide on every delivery that is found, and on what split off from one of them while its row was waited for."""
    reached: dict[UUID, Delivery] = {}
    while ids := [each for each in await find() if each not in reached]:
        for delivery_id in ids:
            delivery = reached[delivery_id] = await DELIVERIES.get(tx, delivery_id)
            decide(delivery)
            save(tx, delivery, min_handling=policy.min_handling, now=now)
            await tx.flush()
    return [*reached.values()]


def _keep(
    tx: Transaction,
    kind: ProcessKind[Reached],
    process: Process[Reached],
    reached: Sequence[Delivery],
    *,
    now: datetime,
) -> None:
    process.state.became = dict(Counter(delivery.status.value for delivery in reached))
    process.state.delivery_ids = [delivery.id for delivery in reached][:REACHED_SHOWN_MAX]
    process.take("told", now=now, deliveries=len(reached))
    process.end("told")
    kind.save(tx, process, now=now)


def _spoil(delivery: Delivery, *, batch_id: BatchId, cause: Spoilage) -> None:
    delivery.batch_spoiled(batch_id, cause=cause)


def _cancel(delivery: Delivery, reason: str) -> None:
    if "cancel" in delivery.allowed:  # picked up in the meantime: it goes on
        delivery.cancel(reason=reason)


def _release_suspended(delivery: Delivery) -> None:
    if delivery.status is Status.CLAIMED:
        delivery.release(reason="volunteer-suspended")
