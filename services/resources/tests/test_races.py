"""Many at once: what is promised and matched is never more than is needed or there is, and every loser hears a clean no."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import httpx
from chassis.database import Database
from chassis.testing import Bus, Callers, LiveService, Tap, eventually, told
from chassis.testing.callers import Caller
from contracts.events import batches
from contracts.events import resources as own
from resources.repository import MATCHES, REQUESTS

from services.resources.tests.builders import (
    REASON,
    BatchTold,
    Grounds,
    Side,
    Steps,
    a_batch,
    a_request,
    a_side,
    a_side_at,
    portions,
)

CLEAN = {"need-exceeded", "invalid-transition", "match-expired", "batch-gone", "concurrent-update"}


async def test_of_two_hundred_at_once_exactly_ten_win_the_last_ten(
    steps: Steps, callers: Callers, database: Database, crowd: httpx.AsyncClient, tap: Tap
) -> None:
    """Two hundred concurrent promises of one for ten open: ten are made, a hundred and ninety refused, none fails."""
    request = await steps.opened()
    path = f"/v1/resource-requests/{request['id']}/reservations"
    body = {"lines": [{"line_id": request["lines"][0]["line_id"], "quantity": 1}], "mode": "volunteer_pickup"}
    givers = [steps.donor, *[await a_side(callers, "donor") for _ in range(3)]]

    answers = await asyncio.gather(
        *(crowd.post(path, json=body, headers=givers[n // 2 % 4].manager.headers) for n in range(200))
    )

    assert told(answers) == {201: 10, "need-exceeded": 190}
    assert len({answer.url.port for answer in answers}) == 2
    assert len({answer.json()["id"] for answer in answers if answer.is_success}) == 10
    assert await steps.coverage(request) == [(10, 10, 0, 0)]
    request_id = UUID(request["id"])
    await eventually(lambda: len(tap.of(own.ReservationMade, request_id)) == 10)
    folded = await REQUESTS.as_of(database.reading(), request_id)
    assert folded == await REQUESTS.get(database.reading(), request_id)


async def test_of_forty_answers_to_one_match_one_counts(
    steps: Steps, callers: Callers, bus: Bus, grounds: Grounds
) -> None:
    """Both sides accept and decline at once: one answer has an effect, the others hear that it is answered."""
    spot = grounds.spot()
    provider, shelter = await a_side_at(callers, "provider", spot), await a_side_at(callers, "receiver", spot)
    body = a_request(shelter.place_id, portions())
    request = await steps.post("/v1/resource-requests", body, shelter.manager, status=201)
    batch = await a_batch(bus, provider, 10)
    (match,) = await proposed(steps, provider, batch, 1)
    path = f"/v1/matches/{match['id']}"

    async with httpx.AsyncClient(base_url=steps.client.base_url, timeout=60) as client:
        answers = await asyncio.gather(
            *(
                client.post(
                    f"{path}/{('accept', 'decline')[n % 2]}",
                    json=({}, REASON)[n % 2],
                    headers=(provider, shelter)[n // 2 % 2].manager.headers,
                )
                for n in range(40)
            )
        )

    codes = Counter(answer.json().get("code", answer.status_code) for answer in answers)
    assert codes == {200: 1, "invalid-transition": 39}
    shown = await steps.get(f"/v1/resource-requests/{request['id']}", shelter.manager)
    ended = await steps.get(path, shelter.manager)
    assert shown["lines"][0]["reserved"] == (10 if ended["status"] == "accepted" else 0)


async def proposed(steps: Steps, provider: Side, batch: BatchTold, count: int) -> list[dict[str, Any]]:
    """What is proposed of a batch, once there are so many."""

    async def shown() -> list[dict[str, Any]]:
        page = await steps.get(f"/v1/matches?batch_id={batch.id}&status=proposed&limit=200", provider.manager)
        found: list[dict[str, Any]] = page["items"]
        return found if len(found) >= count else []

    await eventually(shown)
    return await shown()


async def test_a_storm_leaves_everything_conserved(
    live: LiveService, steps: Steps, callers: Callers, bus: Bus, tap: Tap, grounds: Grounds, database: Database
) -> None:
    """Answers, promises, changes, ends and corrections from all sides at once: sums hold, rows fold, nothing fails."""
    spot, chance = grounds.spot(), random.Random(4)
    provider, donor = await a_side_at(callers, "provider", spot), await a_side(callers, "donor")
    shelters = [await a_side_at(callers, "receiver", (spot[0] + n / 100, spot[1])) for n in range(4)]
    requests = [
        await steps.post(
            "/v1/resource-requests", a_request(s.place_id, portions(12), portions(5)), s.manager, status=201
        )
        for s in shelters
        for _ in range(3)
    ]
    told = [await a_batch(bus, provider, quantity) for quantity in (20, 35, 60)]
    for batch in told:
        await proposed(steps, provider, batch, 1)

    async with httpx.AsyncClient(base_url=steps.client.base_url, timeout=120) as client:
        storm = Storm(client, provider, donor, shelters, requests, chance)
        for _ in range(6):
            answers = await asyncio.gather(*(storm.act() for _ in range(40)), corrected(chance.choice(told), chance))
            for answer in filter(None, answers):
                assert answer.status_code < 500, answer.text
                assert answer.status_code != 409 or answer.json()["code"] in CLEAN, answer.text
            await conserved(database, requests)
    await eventually(lambda: quiet(database, told))

    await conserved(database, requests)
    await matched_no_more_than_there_is(database)
    reading = database.reading()
    for row in await reading.fetch("SELECT id FROM matches"):
        assert await MATCHES.as_of(reading, row["id"]) == await MATCHES.get(reading, row["id"])
    for request in requests:
        request_id = UUID(request["id"])
        assert await REQUESTS.as_of(reading, request_id) == await REQUESTS.get(reading, request_id)
    log = live.log_path.read_text()
    assert "timer.failed" not in log
    assert await reading.fetchval("SELECT count(*) FROM dead_letters WHERE consumer = 'supply'") == 0


class Storm:
    """What anybody may do at any moment."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        provider: Side,
        donor: Side,
        shelters: list[Side],
        requests: list[dict[str, Any]],
        chance: random.Random,
    ) -> None:
        self.client = client
        self.provider = provider
        self.donor = donor
        self.owner = {request["organization_id"]: shelter for request in requests for shelter in shelters
                      if str(shelter.organization_id) == request["organization_id"]}  # fmt: skip
        self.requests = requests
        self.chance = chance

    def act(self) -> Awaitable[httpx.Response | None]:
        """One of them does something."""
        acts = [self.answer, self.answer, self.answer, self.promise, self.promise, self.change, self.take_back]
        return self.chance.choice(acts)()

    async def post(self, path: str, body: Any, by: Caller) -> httpx.Response:
        """As somebody."""
        return await self.client.post(path, json=body, headers=by.headers)

    async def answer(self) -> httpx.Response | None:
        """A side answers something that was proposed a moment ago."""
        page = (await self.client.get("/v1/matches?status=proposed", headers=self.provider.manager.headers)).json()
        if not page["items"]:
            return None
        match = self.chance.choice(page["items"])
        by = self.chance.choice([self.provider, self.owner[match["organization_id"]]]).manager
        if self.chance.random() < 0.6:
            return await self.post(f"/v1/matches/{match['id']}/accept", {}, by)
        return await self.post(f"/v1/matches/{match['id']}/decline", REASON, by)

    async def promise(self) -> httpx.Response:
        """A donor promises a little of something."""
        request = self.chance.choice(self.requests)
        line = {"line_id": self.chance.choice(request["lines"])["line_id"], "quantity": self.chance.randint(1, 3)}
        path = f"/v1/resource-requests/{request['id']}/reservations"
        return await self.post(path, {"lines": [line], "mode": "partner"}, self.donor.manager)

    async def take_back(self) -> httpx.Response | None:
        """A promise is taken back."""
        headers = self.donor.manager.headers
        page = (await self.client.get("/v1/reservations?status=reserved", headers=headers)).json()
        if not page["items"]:
            return None
        reservation = self.chance.choice(page["items"])
        return await self.post(f"/v1/reservations/{reservation['id']}/cancel", REASON, self.donor.manager)

    async def change(self) -> httpx.Response:
        """A place says something else, or closes."""
        request = self.chance.choice(self.requests)
        path, by = f"/v1/resource-requests/{request['id']}", self.owner[request["organization_id"]].manager
        if self.chance.random() < 0.1:
            return await self.post(f"{path}/close", {}, by)
        return await self.post(f"{path}/change", {"urgency": self.chance.choice(["low", "emergency"])}, by)


async def corrected(batch: BatchTold, chance: random.Random) -> None:
    """Batches tells that there is less, or more."""
    total = batch.facts["quantities"]["total"]
    await batch.tell(batches.BatchAdjusted, available=chance.randint(0, total), reason="x")


async def conserved(database: Database, requests: list[dict[str, Any]]) -> None:
    """Line by line: what is proposed is the sum of the open matches, and fits beside what is reserved and received."""
    rows = await database.reading().fetch(
        """SELECT l.*, coalesce((SELECT sum(m.quantity) FROM matches m
            WHERE m.request_id = l.request_id AND m.proposed_line_id = l.line_id), 0) AS matched
           FROM request_lines l WHERE l.request_id = ANY($1::uuid[])""",
        [request["id"] for request in requests],
    )
    for row in rows:
        assert row["proposed"] == row["matched"], dict(row)
        assert row["reserved"] + row["received"] + row["proposed"] <= row["needed"], dict(row)
        assert row["open"] or not row["proposed"], dict(row)


async def matched_no_more_than_there_is(database: Database) -> None:
    """Batch by batch: what is proposed or promised and not on its way is there."""
    rows = await database.reading().fetch(
        """SELECT s.batch_id, s.available, sum(m.quantity) AS matched FROM supply s JOIN matches m USING (batch_id)
           LEFT JOIN reservations r ON r.id = m.reservation_id
           WHERE m.status = 'proposed' OR (m.status = 'accepted' AND r.status = 'reserved')
           GROUP BY s.batch_id, s.available HAVING sum(m.quantity) > s.available"""
    )
    assert [dict(row) for row in rows] == []


async def quiet(database: Database, told: list[BatchTold]) -> bool:
    """Everything told was heard and no process has anything to do."""
    reading = database.reading()
    for batch in told:
        if await reading.fetchval("SELECT version FROM supply WHERE batch_id = $1", batch.id) != batch.version:
            return False
    due = "SELECT count(*) FROM timers WHERE due_at <= now()"
    return not await reading.fetchval(due)
