"""What callers see: who is no party sees the neighbourhood and the goods, not the doors or the people."""

from __future__ import annotations

import base64
from typing import Any, Literal
from uuid import UUID

from chassis.wire import UtcMoment, View, WindowOut
from contracts.values import Category, Storage, Unit

from deliveries.api.bodies import Status
from deliveries.domain import Code, Window
from deliveries.queries import Point, Sight


class PointOut(View):
    """Degrees; about a kilometre coarse unless `exact_points`."""

    lat: float
    lon: float


class LineOut(View):
    """One batch's part; quantities are totals so far, in the batch's unit."""

    line_id: UUID
    batch_id: UUID
    organization_id: UUID
    product_name: str
    category: Category
    storage: Storage
    unit: Unit
    use_by_at: UtcMoment | None
    planned: int
    picked: int
    delivered: int
    rejected: int
    returned: int
    discarded: int
    lost: int


class DeliveryOut(View):
    """A delivery. Place ids, people and the request are null for who is no party to it.

    `parent_id` is what it was split off from, `sibling_ids` what was split off from it; `waiting` is how many volunteers wait
    for it, `waiting_position` the caller's place among them.
    """

    id: UUID
    version: int
    status: Status
    allowed: list[str]
    provider_organization_ids: list[UUID]
    receiving_organization_id: UUID
    pickup_place_id: UUID | None
    receiving_place_id: UUID | None
    pickup_point: PointOut | None
    dropoff_point: PointOut | None
    exact_points: bool
    lines: list[LineOut]
    pickup_window: WindowOut | None
    dropoff_window: WindowOut | None
    request_id: UUID | None
    planned_by: UUID | None
    volunteer_id: UUID | None
    parent_id: UUID | None
    sibling_ids: list[UUID]
    waiting: int
    waiting_position: int | None
    created_at: UtcMoment
    opened_at: UtcMoment | None
    claimed_at: UtcMoment | None
    confirm_by: UtcMoment | None
    picked_up_at: UtcMoment | None
    ended_at: UtcMoment | None
    ended_reason: str | None


class OfflineOut(View):
    """Makes the codes of this claim and stage without a network: RFC 6238 from `secret` (base32); worthless after a release or reroute."""

    secret: str
    algorithm: Literal["SHA256"]
    digits: int
    period_s: int


class CodeOut(View):
    """The code to show now, and until when it is the newest."""

    code: str
    valid_until: UtcMoment
    offline: OfflineOut


_PLAIN = (
    "id", "version", "status", "allowed", "receiving_organization_id", "opened_at", "claimed_at", "confirm_by", "picked_up_at",
    "ended_at", "ended_reason", "parent_id", "sibling_ids",
)  # fmt: skip
_LINE = (
    "line_id", "batch_id", "product_name", "category", "storage", "unit", "use_by_at", "planned", "picked", "delivered",
    "rejected", "returned", "discarded", "lost",
)  # fmt: skip


def shaped(sight: Sight) -> DeliveryOut:
    """The delivery as its caller may see it."""
    delivery = sight.delivery
    lines = [
        LineOut.model_validate({**{name: getattr(line, name) for name in _LINE}, "organization_id": line.provider_id})
        for line in delivery.lines.values()
    ]
    return DeliveryOut.model_validate(
        {
            **{name: getattr(delivery, name) for name in _PLAIN},
            "provider_organization_ids": delivery.provider_ids,
            "pickup_place_id": delivery.pickup_place_id if sight.exact else None,
            "receiving_place_id": delivery.receiving_place_id if sight.exact else None,
            "pickup_point": _point(sight.pickup),
            "dropoff_point": _point(sight.dropoff),
            "exact_points": sight.exact,
            "lines": lines,
            "pickup_window": _window(delivery.pickup_window),
            "dropoff_window": _window(delivery.dropoff_window),
            "request_id": delivery.request_id if sight.party else None,
            "planned_by": delivery.planned_by if sight.party else None,
            "volunteer_id": delivery.volunteer_id if sight.party else None,
            "waiting": len(delivery.waiting),
            "waiting_position": sight.waiting_position,
            "created_at": delivery.planned_at,
        }
    )


def shown_code(code: Code) -> CodeOut:
    """A code for who may show it."""
    secret = base64.b32encode(code.key).decode().rstrip("=")
    offline = OfflineOut(secret=secret, algorithm="SHA256", digits=len(code.code), period_s=code.step_s)
    return CodeOut(code=code.code, valid_until=code.valid_until, offline=offline)


def _point(point: Point | None) -> PointOut | None:
    return None if point is None else PointOut(lat=point[0], lon=point[1])


def _window(window: Window | None) -> Any:
    return None if window is None else WindowOut.model_validate({"from": window.from_at, "to": window.to_at})
