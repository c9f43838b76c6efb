"""A worker that is killed at any moment: the load goes on where it was, and every row counts once."""

from __future__ import annotations

import random

import httpx
from chassis.testing import Callers, LiveService, eventually

from services.resources.tests.loading import Expected, a_partner, a_row, ndjson, rows
from services.resources.tests.test_loads import done

ROWS = 6_000


async def test_killed_again_and_again(live: LiveService, callers: Callers) -> None:
    """Killed while it reads and while it applies, a load ends as if nothing had been: products and counters are right."""
    expected, chance = Expected(), random.Random(7)
    async with httpx.AsyncClient(base_url=live.url, timeout=20) as client:
        partner = await a_partner(client, callers)
        sent = [*rows(ROWS), *(a_row(chance.randrange(1, ROWS), price_cents=5) for _ in range(300))]
        answer = await partner.send(ndjson(sent))

        for counted, share in (("total", 0.3), ("processed", 0.3)):

            async def far_enough(counted: str = counted, share: float = share) -> bool:
                load = (await partner.get(answer.headers["Location"])).json()
                assert load["status"] in (
                    "received",
                    "validating",
                    "ready",
                    "applying",
                )  # else it was too fast to be killed
                return bool(load["rows"][counted] >= share * ROWS)

            await eventually(far_enough, timeout_s=60)
            live.kill()
            await live.start_soon()

        load = await partner.reaches(answer, "applied")
        assert done(load) == expected.load(sent, full=True)
        await partner.has(expected)
