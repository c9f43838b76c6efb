"""Which goods go where: each batch to a shelter nearby that asked for such goods, and what shall happen on the way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from scripts.demo_run import data
from scripts.demo_run.client import Person
from scripts.demo_run.needs import Line, Request
from scripts.demo_run.people import Cast, Place
from scripts.demo_run.supply import Batch

DELIVERIES, DELIVERIES_LATER = 190, 100  # in the first run, in each later one
CANDIDATES = 12  # of the nearest shelters, taken in turn


class Fate(StrEnum):
    """What happens to a delivery."""

    DELIVERED = "delivered"
    SHORT = "less at the pickup than planned, delivered"
    WRONG_CODE = "a wrong code first, delivered"
    RELEASED = "claim released, delivered by another"
    CONTESTED = "claimed by several at once, delivered by one"
    PART_RETURNED = "a part rejected and returned"
    REROUTED = "refused, rerouted, delivered"
    CANCELLED_OPEN = "cancelled while open"
    CANCELLED_CLAIMED = "cancelled after the claim"
    OVERSOLD = "hold rejected, cancelled"
    LEFT_OPEN = "left open"
    LEFT_CLAIMED = "left claimed"


OFTEN = {
    Fate.SHORT: 8,
    Fate.WRONG_CODE: 6,
    Fate.RELEASED: 6,
    Fate.CONTESTED: 5,
    Fate.PART_RETURNED: 4,
    Fate.REROUTED: 3,
    Fate.CANCELLED_OPEN: 4,
    Fate.CANCELLED_CLAIMED: 4,
    Fate.OVERSOLD: 3,
    Fate.LEFT_OPEN: 5,
    Fate.LEFT_CLAIMED: 4,
}
FOR_A_REQUEST_EVERY = 4  # of the deliveries, where a request fits


@dataclass
class Trip:
    """A delivery to be: from one batch to one shelter."""

    number: int
    batch: Batch
    quantity: int
    to: Place
    elsewhere: Place
    request: Request | None
    planner: Person
    fate: Fate


def trips(cast: Cast, batches: list[Batch], requests: list[Request], *, run: int) -> list[Trip]:
    """So many deliveries, the same for the same batches and requests."""
    needed = _by_category(requests)
    fates = list(_fates(DELIVERIES if run == 1 else DELIVERIES_LATER))
    found = []
    for number, fate in enumerate(fates):
        batch = batches[number % len(batches)]
        line, request = _need_for(batch, needed, number)
        near = _near(batch.place, [place for place in cast.shelters if _takes(place, batch)])
        to = request.place if request else near[number % CANDIDATES]
        elsewhere = next(place for place in near if place is not to)
        quantity = _quantity(batch, line, fate)
        organization = batch.place.organization if number % 3 == 0 else to.organization
        planner = organization.somebody(number)
        found.append(Trip(number, batch, quantity, to, elsewhere, request, planner, fate))
    return found


def _fates(total: int) -> Iterator[Fate]:
    """The rare ones spread evenly over all."""
    rare = [fate for fate, count in OFTEN.items() for _ in range(count)]
    every = max(1, total // len(rare))
    for number in range(total):
        turn, position = divmod(number, every)
        yield rare[(turn * 7) % len(rare)] if position == 0 and turn < len(rare) else Fate.DELIVERED


def _by_category(requests: list[Request]) -> dict[tuple[str, str], list[tuple[Line, Request]]]:
    """What is asked for."""
    found: dict[tuple[str, str], list[tuple[Line, Request]]] = defaultdict(list)
    for request in requests:
        for line in request.lines:
            found[line.category, line.unit].append((line, request))
    return found


def _need_for(
    batch: Batch, needed: dict[tuple[str, str], list[tuple[Line, Request]]], number: int
) -> tuple[Line | None, Request | None]:
    """A need of these goods that is still open; each is used once."""
    fitting = needed[batch.product.category, batch.product.unit]
    if number % FOR_A_REQUEST_EVERY or not fitting:
        return None, None
    return fitting.pop(number % len(fitting))


def _takes(place: Place, batch: Batch) -> bool:
    return not place.accepts or batch.product.category in place.accepts


def _near(place: Place, among: list[Place]) -> list[Place]:
    return sorted(among, key=lambda one: data.distance_km((place.lat, place.lon), (one.lat, one.lon)))


def _quantity(batch: Batch, line: Line | None, fate: Fate) -> int:
    """At most half of what is left, so that a batch serves several; one that is oversold asks for more than all."""
    if fate is Fate.OVERSOLD:
        return batch.quantity + 1
    quantity = max(2, min(batch.left // 2, line.left if line else batch.left))
    batch.left -= quantity
    return quantity
