"""The demo's data, plans and receiver, and what the reconciliation counts; the demo itself runs against a stack."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from uuid import UUID, uuid4

import httpx
import pytest
from contracts.values import Category, Unit, cnpj_is_valid
from notifications.domain import TELLINGS
from standardwebhooks.webhooks import Webhook

from scripts.demo_run import data
from scripts.demo_run.checks import counted
from scripts.demo_run.checks.audience import SURELY, TOLD, Audience, Deliveries, Heard, Members, Step
from scripts.demo_run.client import Person
from scripts.demo_run.evidence import is_private, published_as
from scripts.demo_run.needs import Line, Request
from scripts.demo_run.people import Cast, Organization, Place
from scripts.demo_run.plan import DELIVERIES, OFTEN, Fate, trips
from scripts.demo_run.receiver import Receiver, first_arrivals, load_receipts
from scripts.demo_run.supply import Batch
from scripts.demo_run.timings import percentile

SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"


def test_the_data_is_enough_and_in_the_words_of_the_platform() -> None:
    """At least 150 shelters with names, 1,000 needs and 600 products, 10,000 of a shop, each in a known category and unit."""
    shelters, products, catalogue = data.shelters(), data.products(), data.catalogue()
    needs = [need for shelter in shelters for need in shelter.needs]

    assert len(shelters) >= 150
    assert len(needs) >= 1000
    assert len(products) >= 600
    assert all(shelter.name and shelter.address for shelter in shelters)
    assert len({product.name.casefold() for product in catalogue}) == len(catalogue) >= 10_000
    assert {need.category for need in needs} | {one.category for one in (*products, *catalogue)} <= set(
        get_args(Category)
    )
    assert {need.unit for need in needs} | {product.unit for product in products} <= set(get_args(Unit))
    assert all(need.quantity > 0 for need in needs)


def test_a_need_is_understood_by_its_name_first() -> None:
    """People ticked wrong categories; the name decides where it can."""
    assert data.need_category("Roupas Masculinas De Moletom", "Medicamentos") == "clothing"
    assert data.need_category("Água Sanitária", "Medicamentos") == "cleaning"
    assert data.need_category("Molho De Tomate", "Alimentos e Água") == "dry"
    assert data.need_category("Tatames", "Medicamentos") == "other"


@pytest.mark.parametrize("alphanumeric", [False, True])
def test_made_up_cnpjs_are_valid_and_differ(*, alphanumeric: bool) -> None:
    """Check digits fit, the form is the one asked for, and a thousand seeds give a thousand numbers."""
    made = {data.cnpj(f"{number}:demo", alphanumeric=alphanumeric) for number in range(1000)}

    assert len(made) == 1000
    assert all(cnpj_is_valid(one) for one in made)
    assert all(one.isdigit() != alphanumeric for one in made)


def _lines(place: Place) -> list[Line]:
    needs = place.shelter.needs if place.shelter else ()
    return [Line(f"{place.key}:{number}", one.category, one.unit, one.quantity) for number, one in enumerate(needs)]


def _town() -> tuple[Cast, list[Batch], list[Request]]:
    people = [Person(f"{number}@demo.example", "", "") for number in range(4)]
    giver = Organization("provider00", "Giver", ["provider"], "g", [people[0]])
    taker = Organization("receiver00", "Taker", ["receiver"], "t", [people[1]])
    shelters = data.shelters()[:40]
    taker.places = [Place(one.key, one.key, one.name, one.lat, one.lon, taker, [], one) for one in shelters]
    seat = Place("seat", "seat", "Seat", *data.PORTO_ALEGRE, giver)
    batches = [Batch(f"b{n}", seat, product, 4000, 4000) for n, product in enumerate(data.products()[:200])]
    requests = [Request(place.key, place, _lines(place)) for place in taker.places]
    return Cast(people[2], people[3], [taker], [giver], giver, None, None, people), batches, requests  # type: ignore[arg-type]


def test_plans_hold_what_they_promise() -> None:
    """Every fate happens as often as meant; nothing but the oversold asks for more than there is; goods fit requests."""
    cast, batches, requests = _town()

    planned = trips(cast, batches, requests, run=1)

    fates = Counter(trip.fate for trip in planned)
    assert {fate: fates[fate] for fate in OFTEN} == OFTEN
    assert fates.total() == DELIVERIES
    assert all((trip.quantity > trip.batch.quantity) == (trip.fate is Fate.OVERSOLD) for trip in planned)
    assert all(batch.left >= 0 for batch in batches)
    assert all(
        any(line.category == trip.batch.product.category and line.unit == trip.batch.product.unit for line in trip.request.lines)
        for trip in planned
        if trip.request
    )  # fmt: skip
    assert all(trip.to is not trip.elsewhere for trip in planned)


async def test_the_receiver_takes_what_is_genuine_only_and_each_refused_one_again(tmp_path: Path) -> None:
    """A forged signature is 400, the first of those to be sent away 503 and then taken; all of it is kept."""
    receiver = Receiver(tmp_path / "receipts.ndjson", sent_away=1)
    await receiver.start()
    slug, url = receiver.address()
    receiver.know(slug, endpoint_id="e1", secret=SECRET)
    now = datetime.now(UTC)
    body = json.dumps({"type": "t", "time": now.isoformat()})
    genuine = {
        "webhook-id": "m1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("m1", now, body),
    }
    try:
        async with httpx.AsyncClient(trust_env=False) as http:
            answers = [(await http.post(url, content=body, headers=genuine)).status_code for _ in range(2)]
            forged = (await http.post(url, content=body + " ", headers=genuine)).status_code
    finally:
        await receiver.stop()

    kept = load_receipts(tmp_path / "receipts.ndjson")
    assert (*answers, forged) == (503, 204, 400)
    assert [receipt.taken for receipt in kept] == [False, True, False]
    assert [receipt.webhook_id for receipt in first_arrivals(kept)] == ["m1"]


def test_every_domain_event_is_public_or_known_to_be_private() -> None:
    """A renamed event is found under its public name, a private producer's stays inside, an unknown one is neither."""
    assert published_as("deliveries", "ClaimConfirmed") == "vouajudar.deliveries.delivery.claim_confirmed.v1"
    assert published_as("batches", "BatchReady") == "vouajudar.batches.batch.ready.v1"
    assert published_as("deliveries", "HoldGranted") == "vouajudar.deliveries.delivery.hold_granted.v1"
    assert is_private("webhooks", "EndpointCreated")
    assert is_private("resources", "CatalogueLoadStarted")
    assert published_as("batches", "BatchForgotten") is None
    assert not is_private("batches", "BatchCreated")
    assert not is_private("resources", "CatalogueLoadApplied")


def test_a_check_fails_for_anything_lost_doubled_or_strange() -> None:
    """Nothing of the three is right; one of any is a failure that names it."""
    assert counted("all", "2 of 2", lost=[], doubled=[]).ok
    for found in ({"lost": ["a"]}, {"doubled": ["a"]}, {"strange": ["a"]}):
        check = counted("one", "1 of 2", **found)
        assert not check.ok
        assert check.examples == ("a",)


NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
BATCH, RECEIVER, VOLUNTEER = uuid4(), uuid4(), uuid4()
MEMBER, NEWCOMER, LEAVER = uuid4(), uuid4(), uuid4()


def _step(version: int, status: str, *, ago: timedelta, volunteer: UUID | None = VOLUNTEER) -> Step:
    return Step(NOW - ago, version, status, RECEIVER, volunteer, frozenset({BATCH}))


def _audience(*steps: Step) -> Audience:
    """One delivery of one batch, to an organization with one member."""
    delivery, long_ago = uuid4(), NOW - timedelta(hours=1)
    members = Members()
    members.spans[RECEIVER] = [
        (MEMBER, long_ago, None),
        (NEWCOMER, NOW, None),
        (LEAVER, long_ago, NOW - timedelta(minutes=1)),
    ]
    deliveries = Deliveries()
    deliveries.steps[delivery], deliveries.of_batch[BATCH] = list(steps), {delivery}
    return Audience(Heard({}), members, deliveries, frozenset())


def _told_of(audience: Audience, part: str, **data: Any) -> tuple[set[UUID], set[UUID]]:
    event = {"event_id": uuid4(), "occurred_at": NOW, "actor_id": None, "data": {"batch_id": str(BATCH), **data}}
    sure, maybe = audience.of_event(event, (part,))
    return {person for _, person in sure}, {person for _, person in maybe}


def test_the_reconciliation_knows_of_everything_that_people_are_told() -> None:
    """Whatever notifications tells is expected by the reconciliation too."""
    assert {kind for _, kind in TOLD} == set(TELLINGS)


def test_a_recall_is_told_to_whoever_has_or_had_the_goods() -> None:
    """The receiver's member and the volunteer of a delivery that is on its way or done are; of a cancelled one nobody."""
    minute = timedelta(minutes=1)
    for status in ("claimed", "in_transit", "delivered"):
        sure, maybe = _told_of(_audience(_step(4, status, ago=minute)), "holders")
        assert sure == {MEMBER, VOLUNTEER}
        assert maybe == {MEMBER, VOLUNTEER, NEWCOMER}
    assert _told_of(_audience(_step(4, "cancelled", ago=minute)), "holders") == (set(), set())


def test_an_alarm_is_told_to_those_who_carry_and_only_when_out_of_band() -> None:
    """A delivery that is done has no bearers any more; a reading in band is told to nobody."""
    carrying = _audience(_step(4, "in_transit", ago=timedelta(minutes=1)))
    done = _audience(_step(5, "delivered", ago=timedelta(minutes=1)))

    assert _told_of(carrying, "bearers", in_band=False)[0] == {MEMBER, VOLUNTEER}
    assert _told_of(carrying, "bearers", in_band=True) == (set(), set())
    assert _told_of(done, "bearers", in_band=False) == (set(), set())


def test_what_happens_at_the_same_moment_is_right_either_way() -> None:
    """Cancelled within the margin of the recall: its people may be told, and need not be."""
    racing = _audience(_step(4, "claimed", ago=timedelta(minutes=1)), _step(5, "cancelled", ago=SURELY / 2))

    sure, maybe = _told_of(racing, "holders")

    assert sure == set()
    assert maybe == {MEMBER, VOLUNTEER, NEWCOMER}


def test_a_task_is_told_to_its_side_alone() -> None:
    """A volunteer's task to the volunteer, an organization's to its members."""
    audience = _audience()
    of_volunteer = {"role": "volunteer", "assigned_organization_ids": [], "volunteer_id": str(VOLUNTEER)}
    of_receiver = {"role": "receiver_member", "assigned_organization_ids": [str(RECEIVER)], "volunteer_id": None}

    assert _told_of(audience, "side", **of_volunteer) == ({VOLUNTEER}, {VOLUNTEER})
    assert _told_of(audience, "side", **of_receiver)[0] == {MEMBER}


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    """p50 of four is the second, p95 of four the last, of nothing 0."""
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.95) == 4.0
    assert percentile([], 0.5) == 0.0
