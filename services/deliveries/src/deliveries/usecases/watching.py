"""Process managers that wait for somebody: for batches' answers, the pickup, the drop-off, a decision about refused goods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from chassis.database import Transaction
from chassis.processes import Process, ProcessKind

from deliveries.domain import Delivery, Status, UserId
from deliveries.domain.follow_ups import (
    About,
    DropoffDelayed,
    PickupDelayed,
    PickupReminded,
    RerouteAsked,
    RerouteDelayed,
)
from deliveries.domain.watches import (
    ASK_TO_CONFIRM,
    DELAYED,
    GIVE_UP,
    RELEASE,
    REMIND,
    Moment,
    PlaceNear,
    due,
    for_dropoff,
    for_holds,
    for_pickup,
    for_reroute,
    next_at,
    with_grace,
)
from deliveries.repository import offers as places
from deliveries.usecases.following import Following, Manager, say
from deliveries.usecases.saving import save

PLACES_SHOWN_MAX = 5  # a volunteer with a full car chooses from a few
ASKED = "asked"


@dataclass
class Watched:
    """When to look again, whom it waits for, and where refused goods could go."""

    moments: list[Moment] = field(default_factory=list)
    volunteer_id: UserId | None = None
    places: list[PlaceNear] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One look at one delivery."""

    tx: Transaction
    following: Following
    delivery: Delivery
    process: Process[Watched]
    moment: Moment
    now: datetime

    def save(self) -> None:
        """Queue what was decided about the delivery."""
        save(self.tx, self.delivery, min_handling=self.following.policy.min_handling, now=self.now)


Begin = Callable[[Transaction, Following, Delivery, Process[Watched], datetime], Awaitable[list[Moment]]]
Do = Callable[[Turn], Awaitable[None]]


async def _watch(
    begin: Begin,
    does: Mapping[str, Do],
    tx: Transaction,
    following: Following,
    delivery: Delivery,
    process: Process[Watched],
    now: datetime,
) -> None:
    """Begin, or do what is due; of several that are due at once the last, for the others are past."""
    state = process.state
    if process.version == 0:
        state.volunteer_id = delivery.volunteer_id
        state.moments = await begin(tx, following, delivery, process, now)
    elif state.volunteer_id != delivery.volunteer_id:  # somebody else carries it: that is another run's matter
        return process.end("passed")
    moments = due(state.moments, {step.name for step in process.steps}, now=now)
    for past in moments[:-1]:
        process.take(past.step, now=now, passed=True)
    for moment in moments[-1:]:
        process.take(moment.step, now=now)
        turn = Turn(tx=tx, following=following, delivery=delivery, process=process, moment=moment, now=now)
        await does[moment.name](turn)
    process.deadline = next_at(state.moments, now=now)
    if process.deadline is None:
        process.end(process.steps[-1].name)
    return None


# -- what each does ----------------------------------------------------------------------------------------------------


async def _give_up(turn: Turn) -> None:
    """Batches has not answered: cancelling releases what it may have granted, whenever it hears of it."""
    turn.delivery.cancel(reason="holds-unanswered")
    turn.save()


async def _ask_to_confirm(turn: Turn) -> None:
    if turn.delivery.confirm_by is not None:
        await _remind(turn)


async def _remind(turn: Turn) -> None:
    delivery, window = turn.delivery, turn.delivery.pickup_window
    if window is not None:
        reminded = PickupReminded(about=About.of(delivery), pickup_from=window.from_at, confirm_by=delivery.confirm_by)
        await say(turn.tx, reminded, now=turn.now)


async def _pickup_delayed(turn: Turn) -> None:
    grace = turn.following.patience.pickup_grace
    turn.process.state.moments = with_grace(turn.process.state.moments, grace, now=turn.now)
    release = next(moment for moment in turn.process.state.moments if moment.name == RELEASE)
    delayed = PickupDelayed(about=About.of(turn.delivery), due_at=turn.moment.at, release_at=release.at)
    await say(turn.tx, delayed, now=turn.now)


async def _release(turn: Turn) -> None:
    """Nobody came. Whether that was a no-show is for a person to say who waited there."""
    turn.delivery.release(reason="pickup-overdue")
    turn.save()


async def _dropoff_delayed(turn: Turn) -> None:
    due_at = turn.process.state.moments[0].at
    delayed = DropoffDelayed(about=About.of(turn.delivery), due_at=due_at, times=turn.moment.times)
    await say(turn.tx, delayed, now=turn.now)


async def _reroute_delayed(turn: Turn) -> None:
    decide_by = turn.process.state.moments[0].at
    delayed = RerouteDelayed(about=About.of(turn.delivery), decide_by=decide_by, times=turn.moment.times)
    await say(turn.tx, delayed, now=turn.now)


# -- how each begins ---------------------------------------------------------------------------------------------------


async def _wait_for_holds(
    _tx: Transaction, following: Following, delivery: Delivery, _process: Process[Watched], now: datetime
) -> list[Moment]:
    return for_holds(delivery, following.patience, now=now)


async def _wait_for_pickup(
    _tx: Transaction, following: Following, delivery: Delivery, _process: Process[Watched], now: datetime
) -> list[Moment]:
    return for_pickup(delivery, following.patience, now=now)


async def _wait_for_dropoff(
    _tx: Transaction, following: Following, delivery: Delivery, _process: Process[Watched], now: datetime
) -> list[Moment]:
    return for_dropoff(delivery, following.patience, now=now, rerouted=bool(delivery.former_receiver_ids))


async def _ask_where_to(
    tx: Transaction, following: Following, delivery: Delivery, process: Process[Watched], now: datetime
) -> list[Moment]:
    """Places that would take it are looked for near where it was refused, unless it may go to nobody any more."""
    moments = for_reroute(following.patience, now=now)
    process.state.places = await _places_for(tx, following, delivery)
    place_ids = tuple(place.place_id for place in process.state.places)
    process.take(ASKED, now=now, places=len(place_ids))
    asked = RerouteAsked(about=About.of(delivery), decide_by=moments[0].at, place_ids=place_ids)
    await say(tx, asked, now=now)
    return moments


async def _places_for(tx: Transaction, following: Following, delivery: Delivery) -> list[PlaceNear]:
    carried = [line for line in delivery.lines.values() if line.in_hand]
    point = await places.point_of(tx, delivery.receiving_place_id)
    if point is None or any(line.batch_id in delivery.spoiled for line in carried):
        return []
    return await places.places_near(
        tx,
        point,
        radius_m=following.reroute_radius_m,
        categories={line.category for line in carried},
        besides=delivery.receiving_place_id,
        besides_of=[*delivery.provider_ids, *delivery.former_receiver_ids],
        count=PLACES_SHOWN_MAX,
    )


def _manager(name: str, stage: Status, begin: Begin, does: Mapping[str, Do]) -> Manager[Watched]:
    return Manager(kind=ProcessKind(name, Watched), stage=stage, new=Watched, go=partial(_watch, begin, does))


HOLDS = _manager("holds", Status.PLANNED, _wait_for_holds, {GIVE_UP: _give_up})
PICKUP = _manager(
    "pickup",
    Status.CLAIMED,
    _wait_for_pickup,
    {ASK_TO_CONFIRM: _ask_to_confirm, REMIND: _remind, DELAYED: _pickup_delayed, RELEASE: _release},
)
DROPOFF = _manager("dropoff", Status.IN_TRANSIT, _wait_for_dropoff, {DELAYED: _dropoff_delayed})
REROUTE = _manager("reroute", Status.REROUTING, _ask_where_to, {DELAYED: _reroute_delayed})
