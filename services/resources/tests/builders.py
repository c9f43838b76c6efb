"""What tests of resources start from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from chassis.testing import Callers
from chassis.testing.callers import Caller
from contracts.events.identity import MembershipGranted

REASON = {"reason": "test"}


def in_time(**ahead: float) -> str:
    """A moment from now, as clients write it."""
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


def a_line(**changes: Any) -> dict[str, Any]:
    """Ten bottles of water, unless told otherwise."""
    return {"category": "beverage", "name": "Água mineral", "unit": "unit", "needed": 10, **changes}


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
