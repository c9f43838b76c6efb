"""What shelters asked for becomes resource requests; donors promise parts of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from scripts.demo_run import data
from scripts.demo_run.client import Gateway, Json, Refused
from scripts.demo_run.people import NEW_TENANT, Cast, Organization, Place
from scripts.demo_run.progress import Stages

REQUESTS_LATER = 40  # a run after the first opens so many new ones; the others are still there
RESERVATIONS, RESERVATIONS_LATER = 70, 30
TITLES = {"emergency": "Itens urgentes", "high": "Itens necessários", "normal": "Itens", "low": "Itens bem-vindos"}
NEEDED_WITHIN = {"emergency": timedelta(days=1), "high": timedelta(days=3), "low": timedelta(days=10)}
MODES = ("donor_delivers", "volunteer_pickup", "partner")
# Other goods than these come as batches and are carried by volunteers.
PROMISED_CATEGORIES = {"clothing", "bedding", "pet", "medicine", "packaging", "other"}


@dataclass
class Line:
    """One need, and how much of it nobody has promised yet."""

    id: str
    category: str
    unit: str
    left: int


@dataclass
class Request:
    """An open resource request of a shelter."""

    id: str
    place: Place
    lines: list[Line]


@dataclass
class Promises:
    """What became of the reservations."""

    made: int = 0
    received: int = 0
    cancelled: int = 0
    refused_excess: int = 0


async def open_requests(gateway: Gateway, stages: Stages, cast: Cast, *, run: int) -> list[Request]:
    """One request per shelter and urgency with every need its place takes in as a line; a later run opens only some."""
    wanted = [(place, urgency, needs) for place in cast.shelters for urgency, needs in _by_urgency(place)]
    if run > 1:
        start = run * REQUESTS_LATER % len(wanted)
        wanted = [*wanted[start:], *wanted[:start]][:REQUESTS_LATER]

    async def asked(item: tuple[Place, str, list[data.Need]]) -> Request:
        place, urgency, needs = item
        body = _body(place, urgency, needs)
        member = place.organization.somebody(len(needs))
        answer = await gateway.post(member, "/v1/resource-requests", json=body, patience=NEW_TENANT)
        return Request(answer["id"], place, [_line(line) for line in answer["lines"]])

    return await stages.each("needs become requests", wanted, asked)


def _by_urgency(place: Place) -> Iterator[tuple[str, list[data.Need]]]:
    groups: dict[str, list[data.Need]] = defaultdict(list)
    for need in place.shelter.needs if place.shelter else ():
        if not place.accepts or need.category in place.accepts:  # a shelter for animals asked for more
            groups[need.urgency].append(need)
    yield from groups.items()


def _body(place: Place, urgency: str, needs: list[data.Need]) -> Json:
    return {
        "place_id": place.id,
        "title": f"{TITLES[urgency]} — {place.name}",
        "urgency": urgency,
        "needed_by_at": (datetime.now(UTC) + NEEDED_WITHIN[urgency]).isoformat(timespec="seconds"),
        "lines": [
            {"category": need.category, "name": need.name, "unit": need.unit, "needed": need.quantity} for need in needs
        ],
    }


def _line(line: Json) -> Line:
    return Line(line["line_id"], line["category"], line["unit"], line["needed"])


async def promise(gateway: Gateway, stages: Stages, cast: Cast, requests: list[Request], *, run: int) -> Promises:
    """Donors reserve; some bring it at once, some take it back, some want to promise more than is needed."""
    told = Promises()
    able = [(request, line) for request in requests for line in request.lines if line.category in PROMISED_CATEGORIES]
    count = RESERVATIONS if run == 1 else RESERVATIONS_LATER
    chosen = able[:: max(1, len(able) // count)][:count]

    async def promised(numbered: tuple[int, tuple[Request, Line]]) -> None:
        number, (request, line) = numbered
        donor = cast.providers[number % len(cast.providers)]
        if number % 10 == 9:
            told.refused_excess += await _too_much(gateway, donor, request, line)
        quantity = max(1, line.left // 2)
        reservation = await _reserve(gateway, donor, request, line, quantity, MODES[number % len(MODES)])
        line.left -= quantity
        told.made += 1
        if number % 2 == 0:
            await _bring(gateway, donor, request, reservation)
            told.received += 1
        elif number % 7 == 3:
            body = {"reason": "Estoque vendido antes da entrega"}
            await gateway.post(donor.manager, "/v1/reservations/{}/cancel", reservation, json=body)
            told.cancelled += 1

    await stages.each("donors promise and bring", enumerate(chosen), promised)
    return told


async def _reserve(
    gateway: Gateway, donor: Organization, request: Request, line: Line, quantity: int, mode: str
) -> str:
    body = {"lines": [{"line_id": line.id, "quantity": quantity}], "mode": mode}
    route = "/v1/resource-requests/{}/reservations"
    answer = await gateway.post(donor.manager, route, request.id, json=body, patience=NEW_TENANT)
    return str(answer["id"])


async def _bring(gateway: Gateway, donor: Organization, request: Request, reservation: str) -> None:
    await gateway.post(donor.manager, "/v1/reservations/{}/start", reservation, json={})
    receiver = request.place.organization.manager
    await gateway.post(receiver, "/v1/reservations/{}/receive", reservation, json={})


async def _too_much(gateway: Gateway, donor: Organization, request: Request, line: Line) -> int:
    try:
        await _reserve(gateway, donor, request, line, line.left + 1, MODES[0])
    except Refused as refused:
        if refused.code != "need-exceeded":
            raise
        return 1
    raise AssertionError("more was promised than is needed")
