"""What tests of resources start from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from chassis.kernel import new_id
from chassis.testing import Bus, Callers
from chassis.testing.callers import Caller
from contracts.envelope import Event
from contracts.events import batches
from contracts.events.identity import MembershipGranted

REASON = {"reason": "test"}


def in_time(**ahead: float) -> str:
    """A moment from now, as clients write it."""
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


def a_line(**changes: Any) -> dict[str, Any]:
    """Ten bottles of water, unless told otherwise."""
    return {"category": "beverage", "name": "Água mineral", "unit": "unit", "needed": 10, **changes}


def portions(needed: int = 10, **changes: Any) -> dict[str, Any]:
    """A line for so many meals, unless told otherwise."""
    return {"category": "prepared", "name": "Marmita", "unit": "portion", "needed": needed, **changes}


def a_request(place_id: UUID, *lines: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A shelter's request for ten of one thing this week, unless told otherwise."""
    return {
        "place_id": str(place_id),
        "title": "Abrigo Menino Deus",
        "urgency": "high",
        "needed_by_at": in_time(days=7),
        "lines": list(lines) or [a_line()],
        **changes,
    }


@dataclass
class Side:
    """A verified organization with a place, a partner's key, a manager and a member of staff."""

    organization_id: UUID
    place_id: UUID
    partner: Caller
    manager: Caller
    staff: Caller


async def a_side(callers: Callers, *kinds: str) -> Side:
    """An organization of these kinds and its people."""
    organization_id = await callers.organization(kinds=kinds)
    return Side(
        organization_id,
        await callers.place(organization_id, roles=["receiving"]),
        await callers.partner(organization_id),
        await callers.person(member_of=organization_id),
        await callers.person(member_of=organization_id, role="staff"),
    )


class Grounds:
    """Spots of the map that no other test uses: 60 km apart, so that nothing of one is near anything of another."""

    def __init__(self) -> None:
        self._used = 0

    def spot(self) -> tuple[float, float]:
        """The next one."""
        self._used += 1
        row, column = divmod(self._used, 60)
        return 60.0 - row * 0.6, -170.0 + column * 2


@dataclass
class BatchTold:
    """A batch as batches would tell it, step by step; `bus` carries what it says."""

    bus: Bus
    provider: Side
    facts: dict[str, Any]
    version: int = 0

    @property
    def id(self) -> UUID:
        """The batch."""
        batch_id: UUID = self.facts["batch_id"]
        return batch_id

    async def tell(self, kind: type[Event], *, available: int | None = None, **more: Any) -> None:
        """The next step, with what is available after it."""
        self.version += 1
        if available is not None:
            quantities = self.facts["quantities"]
            self.facts["quantities"] = quantities | {"available": available, "lost": quantities["total"] - available}
        if "status" in more:
            self.facts["status"] = more.pop("status")
        await self.bus.publish(kind.model_validate(self.facts | more), subject=self.id, version=self.version)


async def a_batch(bus: Bus, provider: Side, quantity: int = 40, **changes: Any) -> BatchTold:
    """A batch of portions that is ready, to be fetched within four hours, unless told otherwise."""
    now = datetime.now(UTC)
    facts: dict[str, Any] = {
        "batch_id": new_id(),
        "organization_id": provider.organization_id,
        "place_id": provider.place_id,
        "status": "ready",
        "kind": "food",
        "category": "prepared",
        "product_name": "Marmita",
        "unit": "portion",
        "storage": "ambient",
        "use_by_at": now + timedelta(hours=8),
        "pickup_window": {"from_at": now, "to_at": now + timedelta(hours=4)},
        "quantities": {"total": quantity, "available": quantity, "held": 0, "in_transit": 0, "delivered": 0, "lost": 0},
    }
    batch = BatchTold(bus, provider, facts | changes)
    await batch.tell(batches.BatchCreated)
    await batch.tell(batches.BatchReady)
    return batch


@dataclass
class DeliveryTold:
    """A delivery of one line of a batch, as deliveries would tell it, step by step."""

    bus: Bus
    facts: dict[str, Any]
    version: int = 0

    @property
    def id(self) -> UUID:
        """The delivery."""
        delivery_id: UUID = self.facts["delivery_id"]
        return delivery_id

    async def tell(self, kind: type[Event], *, status: str, receiver: UUID | None = None, **line: int) -> None:
        """The next step, with what the line says after it."""
        self.version += 1
        self.facts["lines"][0] |= line
        if receiver is not None:
            self.facts["receiving_organization_id"] = receiver
        extra = {"reason": "test", "usable": True, "previous_volunteer_id": new_id()}
        fact = kind.model_validate(self.facts | extra | {"status": status})
        await self.bus.publish(fact, subject=self.id, version=self.version)


def a_delivery_told(
    bus: Bus, provider: Side, receiver: Side, request: dict[str, Any] | None, planned: int, **line: Any
) -> DeliveryTold:
    """Portions from a provider to a receiver, unless told otherwise; nothing is told yet."""
    told = {
        "line_id": new_id(),
        "batch_id": new_id(),
        "organization_id": provider.organization_id,
        "category": "prepared",
        "product_name": "Marmita",
        "unit": "portion",
        "planned": planned,
        **line,
    }
    facts = {
        "delivery_id": new_id(),
        "provider_organization_ids": [provider.organization_id],
        "pickup_place_id": provider.place_id,
        "receiving_organization_id": receiver.organization_id,
        "receiving_place_id": receiver.place_id,
        "request_id": None if request is None else request["id"],
        "lines": [told],
    }
    return DeliveryTold(bus, facts)


async def a_side_at(callers: Callers, kind: str, spot: tuple[float, float], **place: Any) -> Side:
    """An organization of this kind with a place at a spot, where it gives or takes."""
    side = await a_side(callers, kind)
    roles = ["receiving"] if kind == "receiver" else ["pickup"]
    place_id = await callers.place(side.organization_id, **({"roles": roles, "lat": spot[0], "lon": spot[1]} | place))
    return replace(side, place_id=place_id)


async def join(callers: Callers, person: Caller, organization_id: UUID) -> None:
    """Make a person a member of one more organization."""
    await callers.know(MembershipGranted(organization_id=organization_id, user_id=person.id, role="staff"))


class Steps:
    """What people do, each with the answer that is expected."""

    def __init__(self, client: httpx.AsyncClient, receiver: Side, donor: Side) -> None:
        self.client = client
        self.receiver = receiver
        self.donor = donor

    async def post(self, path: str, body: Any, by: Caller, *, status: int = 200) -> dict[str, Any]:
        """POST as somebody; the answer's body."""
        answer = await self.client.post(path, json=body, headers=by.headers)
        assert answer.status_code == status, (path, answer.text)
        shown: dict[str, Any] = answer.json()
        return shown

    async def get(self, path: str, by: Caller, *, status: int = 200) -> dict[str, Any]:
        """GET as somebody; the answer's body."""
        answer = await self.client.get(path, headers=by.headers)
        assert answer.status_code == status, (path, answer.text)
        shown: dict[str, Any] = answer.json()
        return shown

    async def opened(self, *lines: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """The receiver asks."""
        body = a_request(self.receiver.place_id, *lines, **changes)
        return await self.post("/v1/resource-requests", body, self.receiver.partner, status=201)

    async def reserved(self, request: dict[str, Any], *quantities: int) -> dict[str, Any]:
        """The donor promises quantities of the first lines."""
        lines = [
            {"line_id": line["line_id"], "quantity": quantity}
            for line, quantity in zip(request["lines"], quantities, strict=False)
        ]
        path, body = f"/v1/resource-requests/{request['id']}/reservations", {"lines": lines, "mode": "donor_delivers"}
        return await self.post(path, body, self.donor.manager, status=201)

    async def started(self, request: dict[str, Any], *quantities: int) -> dict[str, Any]:
        """The donor promises and sets out."""
        reservation = await self.reserved(request, *quantities)
        return await self.post(f"/v1/reservations/{reservation['id']}/start", {}, self.donor.manager)

    async def coverage(self, request: dict[str, Any]) -> list[tuple[int, int, int, int]]:
        """needed, reserved, received, open of each line as the receiver sees it."""
        shown = await self.get(f"/v1/resource-requests/{request['id']}", self.receiver.partner)
        return [(each["needed"], each["reserved"], each["received"], each["open"]) for each in shown["lines"]]
