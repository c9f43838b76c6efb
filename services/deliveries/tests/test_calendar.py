"""The calendar of one's deliveries: read back by another implementation, byte rules checked here."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import icalendar
from deliveries.api.calendar import calendar
from deliveries.domain import Delivery, LineId, Window
from deliveries.queries import Sight
from hypothesis import example, given
from hypothesis import strategies as st

from services.deliveries.tests.builders import PICKUP_POINT, World
from services.deliveries.tests.test_api import said
from services.deliveries.tests.test_domain import NOW, a_carried, a_claimed, a_line

PATH = "/v1/me/deliveries.ics"


def shown(delivery: Delivery) -> Sight:
    """The delivery as its volunteer sees it."""
    return Sight(delivery, True, True, None, PICKUP_POINT, None)


def events(raw: bytes) -> list[Any]:
    """The calendar's events, by a parser that is not ours."""
    return list(icalendar.Calendar.from_ical(raw).walk("VEVENT"))


def one(delivery: Delivery, locale: str = "pt-BR") -> Any:
    """The only event of a calendar with this delivery."""
    (event,) = events(calendar([shown(delivery)], locale=locale, now=NOW))
    return event


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=200))
@example("Pão; feijão, arroz \\ e ovos\nfrescos " + "🍞" * 60)
def test_any_name_comes_through(name: str) -> None:
    """Whatever goods are called: CRLF, lines of at most 75 octets, whole characters, and the name as it was but for controls."""
    delivery = a_claimed(a_line(product_name=name))

    raw = calendar([shown(delivery)], locale="pt-BR", now=NOW)

    assert raw.endswith(b"\r\n")
    lines = raw.split(b"\r\n")
    assert all(len(line) <= 75 and line.decode() is not None for line in lines)
    assert b"\n" not in raw.replace(b"\r\n", b"")
    said_name = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "", name.replace("\r\n", "\n"))
    (event,) = events(raw)
    assert event["DESCRIPTION"] == f"5 porções {said_name}"


def test_an_event_says_when_what_and_how_sure() -> None:
    """Moments in UTC, an id that stays, a sequence that grows, the goods, the state, and the point where they are fetched."""
    claimed, carried = a_claimed(), a_carried()
    first, second = one(claimed), one(carried)

    assert first["UID"] == second["UID"] == f"{claimed.id}@vouajudar.org"
    assert (first["SEQUENCE"], second["SEQUENCE"]) == (claimed.version, carried.version)
    assert (first["DTSTART"].dt, first["DTEND"].dt) == (NOW, NOW + timedelta(hours=1))
    assert b"DTSTART:20260504T120000Z\r\n" in calendar([shown(claimed)], locale="pt-BR", now=NOW)
    assert (first["STATUS"], first["TRANSP"]) == ("CONFIRMED", "OPAQUE")
    assert (first["GEO"].latitude, first["GEO"].longitude) == PICKUP_POINT
    assert first["SUMMARY"] == "Entrega: 5 porções Marmita, 5 porções Marmita"
    assert one(claimed, "en")["SUMMARY"] == "Delivery: 5 portions Marmita, 5 portions Marmita"


def test_what_is_called_off_stays_as_cancelled_and_without_a_place() -> None:
    """Programs that show it take it away; nobody learns where from it."""
    cancelled = a_claimed()
    cancelled.cancel(reason="rain")
    delivered = a_carried(a_line())
    delivered.lose({LineId(line_id): 5 for line_id in delivered.lines}, reason="rain", now=NOW)

    assert (one(cancelled)["STATUS"], one(cancelled)["TRANSP"], "GEO" in one(cancelled)) == (
        "CANCELLED", "TRANSPARENT", False,
    )  # fmt: skip
    assert (one(delivered)["STATUS"], "GEO" in one(delivered)) == ("CONFIRMED", False)


def test_a_claim_to_be_confirmed_is_tentative() -> None:
    """Until it is confirmed it may be gone."""
    window = Window(from_at=NOW + timedelta(hours=5), to_at=NOW + timedelta(hours=6))
    delivery = a_claimed(a_line(), pickup_window=window)
    tentative = one(delivery)
    delivery.confirm()

    assert (tentative["STATUS"], one(delivery)["STATUS"]) == ("TENTATIVE", "CONFIRMED")
    assert (tentative["DTSTART"].dt, tentative["DTEND"].dt) == (window.from_at, window.to_at)


async def test_ones_own_deliveries_only(world: World) -> None:
    """A volunteer sees what they carry and what was called off under them; others' and released ones are not in it."""
    volunteer, other = await world.volunteer(), await world.volunteer()
    claimed = await world.claimed(volunteer)
    await world.claimed(other)

    answer = await world.client.get(PATH, headers=volunteer.headers)
    english = await world.client.get(PATH, headers=volunteer.headers | {"Accept-Language": "en-GB,en;q=0.8"})
    await world.done(world.cook, claimed, "cancel", {"reason": "rain"})
    after = await world.client.get(PATH, headers=volunteer.headers)
    again = await world.claimed(volunteer)
    await world.done(volunteer, again, "release", {"reason": "ill"})
    released = await world.client.get(PATH, headers=volunteer.headers)

    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    assert [event["UID"] for event in events(answer.content)] == [f"{claimed['id']}@vouajudar.org"]
    assert events(answer.content)[0]["GEO"].latitude == round(PICKUP_POINT[0], 6)
    assert "Delivery:" in events(english.content)[0]["SUMMARY"]
    assert [(event["UID"], event["STATUS"]) for event in events(after.content)] == [
        (f"{claimed['id']}@vouajudar.org", "CANCELLED")
    ]
    assert len(events(released.content)) == 1
    assert said(await world.client.get(PATH)) == (401, "unauthenticated")
    assert said(await world.client.get(PATH, headers=world.partner.headers)) == (403, "missing-scope")
