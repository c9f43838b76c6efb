"""One's deliveries as a calendar (RFC 5545): times, goods and state; where, only for who carries them now."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from chassis.routing import Now, Person, Tx, api_router
from fastapi import Header, Response

from deliveries import queries
from deliveries.domain import Delivery, Line, Status
from deliveries.queries import Sight

LINE_OCTETS_MAX = 75  # RFC 5545, section 3.1: longer ones are folded
SUMMARY_LINES = 2  # goods that a calendar's small box shows; the description has all
MEDIA_TYPE = "text/calendar; charset=utf-8"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")

# (what it is, units by word: one, several)
_WORDS: Mapping[str, tuple[str, Mapping[str, tuple[str, str]]]] = {
    "pt-BR": ("Entrega", {"portion": ("porção", "porções"), "unit": ("unidade", "unidades")}),
    "en": ("Delivery", {"portion": ("portion", "portions"), "unit": ("unit", "units")}),
}
_CALLED_OFF = (Status.CANCELLED, Status.EXPIRED, Status.FAILED)

router = api_router("deliveries")


@router.get(
    "/v1/me/deliveries.ics",
    operation_id="get_my_calendar",
    response_class=Response,
    responses={200: {"description": "iCalendar", "content": {"text/calendar": {"schema": {"type": "string"}}}}},
)
async def get_my_calendar(
    tx: Tx, principal: Person, now: Now, accept_language: Annotated[str, Header(max_length=500)] = "pt-BR"
) -> Response:
    """What you carry or carried, as a calendar that other programs show; called-off ones stay in it as cancelled."""
    sights = await queries.carried_by(tx, principal, now=now)
    locale = "en" if accept_language.lower().startswith("en") else "pt-BR"
    return Response(calendar(sights, locale=locale, now=now), media_type=MEDIA_TYPE)


def calendar(sights: Iterable[Sight], *, locale: str, now: datetime) -> bytes:
    """The calendar object: CRLF, folded lines, moments in UTC."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//VouAjudar//deliveries 1//PT"]
    for sight in sights:
        lines += _event(sight, locale=locale, now=now)
    return b"".join(_folded(line) for line in [*lines, "END:VCALENDAR"])


def _event(sight: Sight, *, locale: str, now: datetime) -> Iterator[str]:
    delivery = sight.delivery
    span = delivery.span_of_claim(delivery.claimed_at or now)
    called_off = delivery.status in _CALLED_OFF
    goods = [_goods(line, locale) for line in delivery.lines.values()]
    yield "BEGIN:VEVENT"
    yield f"UID:{delivery.id}@vouajudar.org"
    yield f"SEQUENCE:{delivery.version}"
    yield f"DTSTAMP:{_moment(_changed_at(delivery) or now)}"
    yield f"DTSTART:{_moment(span.from_at)}"
    yield f"DTEND:{_moment(span.to_at)}"
    yield f"SUMMARY:{_text(_summary(goods, locale))}"
    yield f"DESCRIPTION:{_text(chr(10).join(goods))}"
    yield f"STATUS:{'CANCELLED' if called_off else _certainty(delivery)}"
    yield f"TRANSP:{'TRANSPARENT' if called_off else 'OPAQUE'}"
    if delivery.carrying and sight.exact and sight.pickup is not None:
        yield f"GEO:{sight.pickup[0]:.6f};{sight.pickup[1]:.6f}"
    yield "END:VEVENT"


def _changed_at(delivery: Delivery) -> datetime | None:
    return delivery.ended_at or delivery.picked_up_at or delivery.claimed_at


def _summary(goods: Sequence[str], locale: str) -> str:
    more = f" +{len(goods) - SUMMARY_LINES}" if len(goods) > SUMMARY_LINES else ""
    return f"{_WORDS[locale][0]}: {', '.join(goods[:SUMMARY_LINES])}{more}"


def _certainty(delivery: Delivery) -> str:
    """A claim that is still to be confirmed is tentative."""
    return "CONFIRMED" if delivery.confirm_by is None else "TENTATIVE"


def _goods(line: Line, locale: str) -> str:
    one, several = _WORDS[locale][1].get(line.unit, (line.unit, line.unit))
    return f"{line.planned} {one if line.planned == 1 else several} {line.product_name}"


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _text(value: str) -> str:
    """Section 3.3.11: what would end the value is escaped, and control characters are not text."""
    escaped = value.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    return _CONTROL.sub("", escaped.replace("\r\n", "\n")).replace("\n", "\\n")


def _folded(line: str) -> bytes:
    """Section 3.1: at most 75 octets a line, further ones begin with a space; no character is cut."""
    folded, room = bytearray(), LINE_OCTETS_MAX
    for character in line:
        octets = character.encode()
        if len(octets) > room:
            folded += b"\r\n "
            room = LINE_OCTETS_MAX - 1
        folded += octets
        room -= len(octets)
    return bytes(folded + b"\r\n")
