"""What process managers of deliveries have in common: how patient they are, what one is, and how something is said."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, Self, TypeVar
from uuid import UUID

from chassis.database import Transaction
from chassis.kernel import DomainError
from chassis.processes import Act, Process, ProcessKind
from chassis.timers import TimerHandler

from deliveries.domain import Delivery, Status
from deliveries.domain.follow_ups import FollowUp, Said, follow_up_id
from deliveries.domain.offers import Reach
from deliveries.domain.watches import Patience
from deliveries.repository import DELIVERIES
from deliveries.repository.follow_ups import FOLLOW_UPS
from deliveries.usecases.asking import Limits, Policy

S = TypeVar("S")


class FollowingLimits(Limits, Protocol):
    """The settings that say how long and how far everybody is looked for."""

    @property
    def holds_answered_s(self) -> int: ...
    @property
    def offer_rings(self) -> tuple[int, ...]: ...
    @property
    def offer_ring_s(self) -> int: ...
    @property
    def offers_per_ring_max(self) -> int: ...
    @property
    def confirm_asked_s(self) -> int: ...
    @property
    def pickup_reminded_s(self) -> int: ...
    @property
    def pickup_grace_s(self) -> int: ...
    @property
    def transit_s(self) -> int: ...
    @property
    def dropoff_again_s(self) -> int: ...
    @property
    def reroute_decided_s(self) -> int: ...
    @property
    def reroute_radius_m(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What the settings say of following deliveries up."""

    policy: Policy
    patience: Patience
    reach: Reach
    reroute_radius_m: int

    @classmethod
    def of(cls, settings: FollowingLimits) -> Self:
        """As these settings say."""
        patience = Patience(
            holds=timedelta(seconds=settings.holds_answered_s),
            ask_to_confirm=timedelta(seconds=settings.confirm_asked_s),
            remind=timedelta(seconds=settings.pickup_reminded_s),
            pickup_grace=timedelta(seconds=settings.pickup_grace_s),
            transit=timedelta(seconds=settings.transit_s),
            dropoff_again=timedelta(seconds=settings.dropoff_again_s),
            reroute=timedelta(seconds=settings.reroute_decided_s),
        )
        reach = Reach(
            radii_m=settings.offer_rings,
            per_ring_max=settings.offers_per_ring_max,
            pause=timedelta(seconds=settings.offer_ring_s),
        )
        return cls(
            policy=Policy.of(settings), patience=patience, reach=reach, reroute_radius_m=settings.reroute_radius_m
        )


Go = Callable[[Transaction, Following, Delivery, Process[S], datetime], Awaitable[None]]
TakeBack = Callable[[Transaction, UUID, datetime], Awaitable[None]]


async def nothing_to_take_back(_tx: Transaction, _delivery_id: UUID, _now: datetime) -> None:
    """What was said cannot be unsaid."""


@dataclass(frozen=True, kw_only=True)
class Manager(Generic[S]):
    """The process manager of one stage: `go` begins it and goes on with it, `take_back` undoes what it did."""

    kind: ProcessKind[S]
    stage: Status
    new: Callable[[], S]
    go: Go[S]
    take_back: TakeBack = nothing_to_take_back

    async def begin(
        self, tx: Transaction, following: Following, delivery: Delivery, process: Process[S], now: datetime
    ) -> None:
        """The first steps of a process that is not saved yet, and its row."""

        async def act(tx: Transaction, process: Process[S], now: datetime) -> None:
            await self.go(tx, following, delivery, process, now)

        await self.kind.attempt(tx, process, act, self._undo, now=now)

    async def wake(self, tx: Transaction, following: Following, process: Process[S], now: datetime) -> None:
        """Look at the delivery again: go on, or end where it is not in this stage any more; and save."""
        await self.kind.attempt(tx, process, self._act(following), self._undo, now=now)

    def timer(self, following: Following) -> TimerHandler:
        """What its due timers do: wake the process, if it still runs and is due."""
        return self.kind.on_deadline(self._act(following), self._undo)

    def _act(self, following: Following) -> Act[S]:
        async def act(tx: Transaction, process: Process[S], now: datetime) -> None:
            delivery = await DELIVERIES.get(tx, process.key)
            if delivery.status is self.stage:
                await self.go(tx, following, delivery, process, now)
            else:
                process.end(delivery.status.value)

        return act

    async def end(self, tx: Transaction, delivery: Delivery, *, now: datetime) -> None:
        """The stage is left: what still runs ends, with what the delivery is now as its outcome."""
        process = await self.kind.running(tx, delivery.id)
        if process is not None:
            process.end(delivery.status.value)
            self.kind.save(tx, process, now=now)

    async def _undo(self, tx: Transaction, process: Process[S], _error: DomainError, now: datetime) -> None:
        await self.take_back(tx, process.key, now)


AnyManager = Manager[Any]


async def say(tx: Transaction, fact: Said, *, now: datetime) -> None:
    """Queue something said about a delivery, which the caller holds."""
    stream = follow_up_id(fact.about.delivery_id)
    follow_up = await FOLLOW_UPS.find(tx, stream) or FollowUp(id=stream)
    follow_up.say(fact)
    FOLLOW_UPS.save(tx, follow_up, now=now)
