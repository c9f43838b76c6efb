"""What tests of deliveries start from: a world with a provider, a receiver and volunteers, in which others play batches."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from chassis.database import Database
from chassis.kernel import new_id
from chassis.testing import Bus, Callers, Tap, eventually
from chassis.testing.callers import Caller
from contracts.envelope import Event
from contracts.events import batches, deliveries, identity
from contracts.values import Quantities, Window
from deliveries.repository import DELIVERIES

PICKUP_POINT, DROPOFF_POINT = (-30.034567, -51.234567), (-30.045678, -51.212345)


@dataclass
class Batch:
    """A batch as the batches service would tell of it; `version` counts its facts."""

    organization_id: UUID
    place_id: UUID
    id: UUID = field(default_factory=new_id)
    version: int = 0
    told: dict[str, Any] = field(default_factory=dict)

    def fact(self, kind: type[Event], **specifics: Any) -> Event:
        """A fact about it: forty portions for tomorrow, ready now, unless told otherwise."""
        now = datetime.now(UTC)
        quantities = Quantities(total=40, available=40, held=0, in_transit=0, delivered=0, lost=0)
        snapshot = {
            "batch_id": self.id,
            "organization_id": self.organization_id,
            "place_id": self.place_id,
            "status": "ready",
            "kind": "food",
            "category": "prepared",
            "product_name": "Sopa de legumes",
            "unit": "portion",
            "storage": "ambient",
            "use_by_at": now + timedelta(days=1),
            "pickup_window": Window(from_at=now - timedelta(minutes=5), to_at=now + timedelta(hours=3)),
            "quantities": quantities,
        }
        return kind.model_validate(snapshot | self.told | specifics)


@dataclass
class World:
    """A provider with a kitchen, a shelter that receives, and their people."""

    client: httpx.AsyncClient
    bus: Bus
    tap: Tap
    callers: Callers
    database: Database
    provider_id: UUID = field(default_factory=new_id)
    receiver_id: UUID = field(default_factory=new_id)

    async def settle(self) -> None:
        """Make the organizations, places and people known."""
        self.provider_id, self.receiver_id = await self.callers.organization(), await self.callers.organization()
        self.kitchen = await self.callers.place(self.provider_id, lat=PICKUP_POINT[0], lon=PICKUP_POINT[1])
        self.shelter = await self.callers.place(self.receiver_id, lat=DROPOFF_POINT[0], lon=DROPOFF_POINT[1])
        self.cook = await self.callers.person(member_of=self.provider_id, role="staff")
        self.keeper = await self.callers.person(member_of=self.receiver_id, role="staff")
        self.partner = await self.callers.partner(self.provider_id)
        self.coordinator = await self.callers.person(platform_role="coordinator")
        self.stranger = await self.callers.person(member_of=await self.callers.organization())

    def through(self, client: httpx.AsyncClient) -> World:
        """The same world through another client."""
        other = copy.copy(self)
        other.client = client
        return other

    async def conserved(self, delivery: dict[str, Any]) -> None:
        """The row is what its facts fold to."""
        reading, delivery_id = self.database.reading(), UUID(delivery["id"])
        assert await DELIVERIES.get(reading, delivery_id) == await DELIVERIES.as_of(reading, delivery_id)

    async def times(self, kind: type[Event], delivery: dict[str, Any]) -> int:
        """How often a fact of a delivery was told by the time that it and everything before is out."""
        version = (await self.look(self.coordinator, delivery)).json()["version"]
        subject = UUID(delivery["id"])
        await eventually(
            lambda: version in {r.envelope.aggregateversion for r in self.tap.received if r.envelope.subject == subject}
        )
        return len(self.tap.of(kind, subject))

    async def tell(self, batch: Batch, kind: type[Event], **specifics: Any) -> UUID:
        """Publish the next fact of a batch."""
        batch.version += 1
        return await self.bus.publish(batch.fact(kind, **specifics), subject=batch.id, version=batch.version)

    async def batch(self, **told: Any) -> Batch:
        """A ready batch in the kitchen that deliveries knows."""
        batch = Batch(self.provider_id, self.kitchen, told=told)
        await self.tell(batch, batches.BatchReady)
        await eventually(lambda: self.database.reading().fetchval(_KNOWN_BATCH, batch.id))
        return batch

    async def volunteer(self, *, capacity_g: int = 50_000, vehicle: str = "car") -> Caller:
        """A person with a profile that deliveries knows."""
        person = await self.callers.person()
        profile = identity.VolunteerProfileChanged(
            user_id=person.id, vehicle=vehicle, capacity_g=capacity_g, lat=-30.0, lon=-51.2, radius_m=5_000
        )
        await self.bus.publish(profile, subject=person.id, version=2)
        await eventually(lambda: self.database.reading().fetchval(_KNOWN_VOLUNTEER, person.id))
        return person

    def plan(self, *parts: Batch, quantity: int = 5, **changes: Any) -> dict[str, Any]:
        """The body of a plan for the shelter."""
        lines = [{"batch_id": str(batch.id), "quantity": quantity} for batch in parts]
        return {"receiving_place_id": str(self.shelter), "lines": lines, **changes}

    async def planned(self, *parts: Batch, by: Caller | None = None, **changes: Any) -> dict[str, Any]:
        """A planned delivery, by the cook unless told otherwise."""
        body = self.plan(*(parts or (await self.batch(),)), **changes)
        answer = await self.client.post("/v1/deliveries", json=body, headers=(by or self.cook).headers)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def grant(self, delivery: dict[str, Any], parts: Sequence[Batch]) -> None:
        """Batches sets every line's goods aside."""
        for line, batch in zip(delivery["lines"], parts, strict=True):
            await self.tell(
                batch,
                batches.BatchHeld,
                hold_id=line["line_id"],
                delivery_id=delivery["id"],
                quantity=line["planned"],
            )

    async def opened(self, *parts: Batch, **changes: Any) -> dict[str, Any]:
        """An open delivery."""
        parts = parts or (await self.batch(),)
        delivery = await self.planned(*parts, **changes)
        await self.grant(delivery, parts)
        await self.tap.saw(deliveries.DeliveryOpened, UUID(delivery["id"]))
        return delivery

    async def claimed(self, volunteer: Caller, *parts: Batch, **changes: Any) -> dict[str, Any]:
        """A delivery that the volunteer claimed."""
        delivery = await self.opened(*parts, **changes)
        return await self.done(volunteer, delivery, "claim")

    async def carried(self, volunteer: Caller, *parts: Batch, temperature_dc: int | None = None) -> dict[str, Any]:
        """A delivery whose goods the volunteer carries."""
        delivery = await self.claimed(volunteer, *parts)
        body = {
            "code": await self.code(volunteer, delivery, "pickup"),
            "lines": [{"line_id": line["line_id"], "picked": line["planned"]} for line in delivery["lines"]],
            "temperature_dc": temperature_dc,
        }
        return await self.done(self.cook, delivery, "pickup", body)

    async def refused(self, volunteer: Caller, *parts: Batch) -> dict[str, Any]:
        """A delivery that the shelter did not take."""
        delivery = await self.carried(volunteer, *parts)
        return await self.done(self.keeper, delivery, "refuse", {"reason": "closed"})

    async def give(
        self, caller: Caller, delivery: dict[str, Any], command: str, body: dict[str, Any] | None = None
    ) -> httpx.Response:
        """Post a command."""
        return await self.client.post(f"/v1/deliveries/{delivery['id']}/{command}", json=body, headers=caller.headers)

    async def done(
        self, caller: Caller, delivery: dict[str, Any], command: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Post a command that must succeed."""
        answer = await self.give(caller, delivery, command, body)
        assert answer.status_code == 200, answer.text
        after: dict[str, Any] = answer.json()
        return after

    async def code(self, caller: Caller, delivery: dict[str, Any], stage: str) -> str:
        """The code that the caller shows."""
        answer = await self.show(caller, delivery, stage)
        assert answer.status_code == 200, answer.text
        code: str = answer.json()["code"]
        return code

    async def show(self, caller: Caller, delivery: dict[str, Any], stage: str) -> httpx.Response:
        """Ask for a code."""
        path = f"/v1/deliveries/{delivery['id']}/code"
        return await self.client.get(path, params={"stage": stage}, headers=caller.headers)

    async def look(self, caller: Caller, delivery: dict[str, Any]) -> httpx.Response:
        """Read a delivery."""
        return await self.client.get(f"/v1/deliveries/{delivery['id']}", headers=caller.headers)

    async def status(self, delivery: dict[str, Any]) -> str:
        """What a coordinator sees now."""
        status: str = (await self.look(self.coordinator, delivery)).json()["status"]
        return status

    async def becomes(self, delivery: dict[str, Any], status: str) -> None:
        """Wait for a status."""

        async def check() -> bool:
            return await self.status(delivery) == status

        await eventually(check)


def dropped(delivery: dict[str, Any], *, rejected: int = 0) -> list[dict[str, Any]]:
    """Everything in hand taken, but for so much of each line."""
    return [
        {"line_id": line["line_id"], "delivered": line["picked"] - rejected, "rejected": rejected}
        for line in delivery["lines"]
    ]


def wrong(code: str) -> str:
    """A well-formed code that is not this one, nor one of a neighbouring minute but by a chance of one in 300,000."""
    return f"{(int(code) + 500_001) % 1_000_000:06d}"


_KNOWN_BATCH = "SELECT EXISTS (SELECT FROM known_batches WHERE batch_id = $1)"
_KNOWN_VOLUNTEER = "SELECT EXISTS (SELECT FROM volunteers WHERE user_id = $1 AND vehicle IS NOT NULL)"
