"""What both acts do with a delivery: plan it, wait for what happens by itself, and hand goods over by code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from scripts.demo_run.client import Gateway, Json, Person
from scripts.demo_run.people import NEW_TENANT, Place

T = TypeVar("T")

WITHIN_S = 30.0
POLL_S = 0.15
# What a volunteer hears until deliveries knows the profile, and anybody until it knows the batch or the place.
NEWS = (*NEW_TENANT, "batch-not-found", "volunteer-not-active", "delivery-not-found", "request-not-found")


class TooSlow(Exception):
    """Something that happens by itself did not happen in time."""


async def eventually(what: str, look: Callable[[], Awaitable[T | None]], *, within_s: float = WITHIN_S) -> T:
    """The first answer that is something; raises `TooSlow` when there is none in time."""
    try:
        async with asyncio.timeout(within_s):
            while (found := await look()) is None:
                await asyncio.sleep(POLL_S)
            return found
    except TimeoutError as error:
        raise TooSlow(f"{what}: not after {within_s:.0f} s") from error


class Hands:
    """Acts on deliveries, each by the person who may."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def plan(self, planner: Person, batch: str, quantity: int, to: Place, *, request: str | None = None) -> str:
        """The id of a new delivery of so much of a batch."""
        body: Json = {"receiving_place_id": to.id, "lines": [{"batch_id": batch, "quantity": quantity}]}
        if request is not None:
            body["request_id"] = request
        news = (*NEWS, "batch-not-ready")
        answer = await self._gateway.post(planner, "/v1/deliveries", json=body, patience=news)
        return str(answer["id"])

    async def until(self, who: Person, delivery: str, status: str, *, within_s: float = WITHIN_S) -> Json:
        """The delivery once it is there."""

        async def look() -> Json | None:
            found: Json = await self._gateway.get(who, "/v1/deliveries/{}", delivery)
            return found if found["status"] == status else None

        return await eventually(f"delivery {delivery} is {status}", look, within_s=within_s)

    async def code(self, who: Person, delivery: str, stage: str) -> str:
        """The six digits that somebody shows now."""
        answer: Any = await self._gateway.get(who, "/v1/deliveries/{}/code", delivery, stage=stage)
        return str(answer["code"])

    async def pick_up(
        self, giver: Person, volunteer: Person, delivery: str, *, missing: int = 0, temperature_dc: int | None = None
    ) -> Json:
        """The volunteer shows the code, the giver enters it; of every line so much is missing."""
        lines = (await self._gateway.get(volunteer, "/v1/deliveries/{}", delivery))["lines"]
        picked = [{"line_id": line["line_id"], "picked": line["planned"] - missing} for line in lines]
        body = {"code": await self.code(volunteer, delivery, "pickup"), "lines": picked, **_reading(temperature_dc)}
        answer: Json = await self._gateway.post(giver, "/v1/deliveries/{}/pickup", delivery, json=body)
        return answer

    async def drop_off(
        self,
        taker: Person,
        volunteer: Person,
        carried: Json,
        *,
        rejected: int = 0,
        temperature_dc: int | None = None,
    ) -> Json:
        """The taker shows the code, the volunteer enters it; of every line so much is rejected."""
        body = {
            "code": await self.code(taker, carried["id"], "dropoff"),
            "lines": [
                {"line_id": line["line_id"], "delivered": in_hand(line) - rejected, "rejected": rejected}
                for line in carried["lines"]
            ],
            **_reading(temperature_dc),
        }
        answer: Json = await self._gateway.post(volunteer, "/v1/deliveries/{}/dropoff", carried["id"], json=body)
        return answer

    async def give_back(self, giver: Person, volunteer: Person, delivery: str) -> Json:
        """The giver shows the code, and has everything back that was in hand."""
        body = {"code": await self.code(giver, delivery, "return")}
        answer: Json = await self._gateway.post(volunteer, "/v1/deliveries/{}/return", delivery, json=body)
        return answer

    async def refuse(self, taker: Person, delivery: str, reason: str) -> Json:
        """The receiver takes nothing."""
        answer: Json = await self._gateway.post(taker, "/v1/deliveries/{}/refuse", delivery, json={"reason": reason})
        return answer

    async def reroute(self, volunteer: Person, delivery: str, to: Place) -> Json:
        """The volunteer carries it to another place."""
        body = {"place_id": to.id}
        answer: Json = await self._gateway.post(volunteer, "/v1/deliveries/{}/reroute", delivery, json=body)
        return answer


def in_hand(line: Json) -> int:
    """How much of a line is with the volunteer."""
    return int(line["picked"] - line["delivered"] - line["returned"] - line["discarded"] - line["lost"])


def _reading(temperature_dc: int | None) -> Json:
    return {} if temperature_dc is None else {"temperature_dc": temperature_dc}
