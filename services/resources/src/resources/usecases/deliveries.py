"""What deliveries tell: a promise that sets out, goods that arrive, and a promise that a delivery did not keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from chassis.database import Transaction
from chassis.telemetry import log

from resources import repository
from resources.domain import DeliveryId, Goods, OrganizationId, ResourceRequest
from resources.repository import REQUESTS, HandedOver, KnownDelivery
from resources.usecases.looking import look_again
from resources.usecases.saving import save

PLANNED = "planned"
ENDS = frozenset({"delivered", "returned", "discarded", "cancelled", "expired", "failed"})


class SupplyBehind(Exception):
    """A batch that a delivery carries has not been heard of here yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldLine:
    """A line of a delivery, as its event told it."""

    line_id: UUID
    batch_id: UUID
    category: str
    unit: str
    planned: int
    delivered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldDelivery:
    """A delivery, as its event told it."""

    delivery_id: UUID
    status: str
    request_id: UUID | None
    receiving_organization_id: UUID
    provider_ids: Sequence[UUID]
    lines: Sequence[ToldLine]

    @property
    def givers(self) -> list[OrganizationId]:
        """Whose goods it carries."""
        return [OrganizationId(each) for each in self.provider_ids]


async def follow_delivery(tx: Transaction, told: ToldDelivery, *, now: datetime) -> None:
    """A delivery went a step further. Each step is told once and in order; `SupplyBehind` when it must be told again later."""
    before = await repository.known_delivery(tx, told.delivery_id)
    request = await _request_of(tx, told)
    known = await _known(tx, told, before, request)
    here = request is not None and request.organization_id == told.receiving_organization_id
    _hand_over(known, told, here=here)
    if before is None and told.status == PLANNED:
        _ask_for_holds(tx, told, now)
    if before is None and told.request_id is not None and not here:
        log.warning("delivery.of_no_request", delivery_id=str(told.delivery_id), request_id=str(told.request_id))
    repository.keep_delivery(tx, known)
    if request is not None:
        await _move_on(tx, request, told, known, here=here, now=now)
    await _lose_elsewhere(tx, told, request, now)


async def _request_of(tx: Transaction, told: ToldDelivery) -> ResourceRequest | None:
    """The one request that a delivery serves: the one it was made for, or the first of which a promise set out with it."""
    request_id = told.request_id
    if request_id is None:
        request_id = next(iter(await repository.requests_promised_with(tx, told.delivery_id)), None)
    return None if request_id is None else await REQUESTS.find(tx, request_id)


async def _known(
    tx: Transaction, told: ToldDelivery, before: KnownDelivery | None, request: ResourceRequest | None
) -> KnownDelivery:
    """The delivery as it is known from now on; of which product each line is stays as it was found first."""
    lines = {} if before is None else before.lines
    missing = [line for line in told.lines if line.line_id not in lines]
    gtins = await repository.gtins_of(tx, [line.batch_id for line in missing]) if missing and request else {}
    by_product = request is not None and any(line.gtin for line in request.lines.values())
    if by_product and not {line.batch_id for line in missing} <= gtins.keys():
        raise SupplyBehind(f"a batch of delivery {told.delivery_id}")
    return KnownDelivery(
        delivery_id=told.delivery_id,
        status=told.status,
        request_id=told.request_id,
        receiving_organization_id=told.receiving_organization_id,
        provider_ids=told.provider_ids,
        lines=lines | {line.line_id: HandedOver(gtin=gtins.get(line.batch_id)) for line in missing},
    )


def _hand_over(known: KnownDelivery, told: ToldDelivery, *, here: bool) -> None:
    for line in told.lines:
        so_far = known.lines[line.line_id]
        more = max(0, line.delivered - so_far.told)
        known.lines[line.line_id] = replace(so_far, told=so_far.told + more, here=so_far.here + (more if here else 0))


def _ask_for_holds(tx: Transaction, told: ToldDelivery, now: datetime) -> None:
    for line in told.lines:
        repository.note_hold(tx, line.line_id, "asked", batch_id=line.batch_id, quantity=line.planned)
        look_again(tx, line.batch_id, because=line.line_id, now=now)


async def _move_on(
    tx: Transaction, request: ResourceRequest, told: ToldDelivery, known: KnownDelivery, *, here: bool, now: datetime
) -> None:
    delivery_id = DeliveryId(told.delivery_id)
    arrived = _goods(known, told, {line_id: line.here for line_id, line in known.lines.items()})
    if here and told.status == PLANNED:
        planned = _goods(known, told, {line.line_id: line.planned for line in told.lines})
        request.plan_delivery(delivery_id, brought_by=told.givers, goods=planned)
    if arrived:
        request.receive_delivery(delivery_id, brought_by=told.givers, goods=arrived, now=now)
    if not here or told.status in ENDS:
        request.lose_delivery(delivery_id, reason=f"delivery-{told.status}" if here else "delivery-elsewhere")
    await save(tx, request, now=now)
    await tx.flush()


def _goods(known: KnownDelivery, told: ToldDelivery, quantities: dict[UUID, int]) -> list[Goods]:
    return [
        Goods(category=line.category, unit=line.unit, quantity=quantity, gtin=known.lines[line.line_id].gtin)
        for line in told.lines
        if (quantity := quantities.get(line.line_id, 0)) > 0
    ]


async def _lose_elsewhere(tx: Transaction, told: ToldDelivery, served: ResourceRequest | None, now: datetime) -> None:
    """Promises to other requests that set out with a delivery which now ends were not kept by it."""
    if told.status not in ENDS:
        return
    for request_id in await repository.requests_promised_with(tx, told.delivery_id):
        if served is None or request_id != served.id:
            request = await REQUESTS.get(tx, request_id)
            request.lose_delivery(DeliveryId(told.delivery_id), reason=f"delivery-{told.status}")
            await save(tx, request, now=now)
            await tx.flush()
