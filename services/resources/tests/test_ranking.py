"""Which needs a batch is proposed to: five reasons that can be told, and an order that is always the same."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from resources.domain import (
    BatchId,
    Candidate,
    LineId,
    MatchId,
    MatchStatus,
    Offer,
    OrganizationId,
    PlaceId,
    Ranked,
    ReasonWord,
    RequestId,
    Standing,
    Supply,
    Urgency,
    dealt,
    next_moment,
    ranked,
    time_to_answer,
    to_end,
)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def an_offer(**changes: Any) -> Offer:
    """Forty portions in the centre of Porto Alegre, to be fetched within four hours."""
    told: dict[str, Any] = {
        "batch_id": BatchId(UUID(int=1)),
        "organization_id": OrganizationId(UUID(int=2)),
        "place_id": PlaceId(UUID(int=3)),
        "lat": -30.03,
        "lon": -51.23,
        "category": "prepared",
        "gtin": None,
        "unit": "portion",
        "product_name": "Marmita",
        "free": 40,
        "use_by_at": NOW + 6 * HOUR,
        "pickup_from": NOW,
        "pickup_to": NOW + 4 * HOUR,
    }
    return Offer(**(told | changes))


def a_candidate(number: int = 10, **changes: Any) -> Candidate:
    """A place two kilometres away that lacks forty of forty, tomorrow."""
    told: dict[str, Any] = {
        "request_id": RequestId(UUID(int=number)),
        "line_id": LineId(UUID(int=number)),
        "organization_id": OrganizationId(UUID(int=number)),
        "place_id": PlaceId(UUID(int=number)),
        "lat": -30.048,
        "lon": -51.23,
        "people_served": 50,
        "urgency": Urgency.NORMAL,
        "needed": 40,
        "open": 40,
        "needed_by_at": NOW + 24 * HOUR,
        "recent": 0,
    }
    return Candidate(**(told | changes))


def order_of(*candidates: Candidate, **offer: Any) -> list[int]:
    """The numbers of the candidates, best first."""
    return [each.candidate.line_id.int for each in ranked(an_offer(**offer), candidates, now=NOW)]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"urgency": Urgency.EMERGENCY}, {"urgency": Urgency.HIGH}),
        ({"open": 40}, {"open": 20}),
        ({"lat": -30.04}, {"lat": -30.10}),
        ({"people_served": 200}, {"people_served": None}),
        ({"recent": 0}, {"recent": 2}),
        ({"needed_by_at": NOW + 20 * HOUR}, {"needed_by_at": NOW + 2 * HOUR}),
    ],
)
def test_all_else_equal_each_reason_decides(better: dict[str, Any], worse: dict[str, Any]) -> None:
    """The more urgent, less covered, nearer, larger, less served lately, and surer to be reached in time comes first."""
    assert order_of(a_candidate(11, **worse), a_candidate(12, **better)) == [12, 11]


@pytest.mark.parametrize(
    ("candidate", "offer"),
    [
        ({"lat": -30.03 + 0.19}, {}),
        ({"open": 0}, {}),
        ({"needed_by_at": NOW + timedelta(minutes=30)}, {}),
        ({}, {"use_by_at": NOW + timedelta(minutes=33)}),
        ({}, {"pickup_to": NOW + timedelta(minutes=29)}),
    ],
)
def test_what_cannot_be_served_is_no_candidate(candidate: dict[str, Any], offer: dict[str, Any]) -> None:
    """Too far, lacking nothing, or not to be reached before it helps nobody."""
    assert order_of(a_candidate(**candidate), **offer) == []


def test_a_need_without_a_last_day_and_goods_that_keep_are_sure() -> None:
    """With nothing to be late for the reason of time counts in full."""
    (best,) = ranked(an_offer(use_by_at=None), [a_candidate(needed_by_at=None)], now=NOW)

    assert {reason.word: reason.value for reason in best.reasons}[ReasonWord.TIME] == 1


def test_the_reasons_can_be_told() -> None:
    """Each reason has a value, a weight and the facts behind it, and the score is their sum."""
    (best,) = ranked(an_offer(), [a_candidate(recent=3)], now=NOW)

    facts = {reason.word.value: reason.facts for reason in best.reasons}
    assert facts["need"] == {"urgency": "normal", "open": 40, "needed": 40}
    assert facts["distance"] == {"distance_m": 2002}
    assert facts["capacity"] == {"quantity": 40, "people_served": 50}
    assert facts["fairness"] == {"recent": 3}
    assert 18_000 < int(facts["time"]["slack_s"]) < 21_600
    assert sum(reason.weight for reason in best.reasons) == pytest.approx(1)
    assert best.score == pytest.approx(sum(r.weight * r.value for r in best.reasons), abs=1e-4)


CANDIDATES = st.lists(
    st.builds(
        a_candidate,
        st.integers(1, 50),
        lat=st.floats(-30.2, -29.9),
        urgency=st.sampled_from(Urgency),
        open=st.integers(0, 30),
        recent=st.integers(0, 9),
        people_served=st.none() | st.integers(0, 1000),
        needed_by_at=st.none() | st.integers(0, 48).map(lambda hours: NOW + hours * HOUR),
    ),
    max_size=12,
    unique_by=lambda candidate: candidate.line_id,
)


@given(CANDIDATES, st.randoms(use_true_random=False), st.integers(1, 60), st.integers(1, 5))
def test_the_same_needs_give_the_same_matches(
    candidates: list[Candidate], chance: Any, free: int, proposals_max: int
) -> None:
    """Whatever the order they are read in; scores lie between 0 and 1."""
    shuffled = list(candidates)
    chance.shuffle(shuffled)
    offer = an_offer(free=free)

    first, second = ranked(offer, candidates, now=NOW), ranked(offer, shuffled, now=NOW)

    assert first == second
    assert all(0 <= each.score <= 1 for each in first)
    assert dealt(offer, first, proposals_max=proposals_max) == dealt(offer, second, proposals_max=proposals_max)


@given(CANDIDATES, st.integers(1, 60), st.integers(1, 5))
def test_what_is_free_is_dealt_out_once(candidates: list[Candidate], free: int, proposals_max: int) -> None:
    """Never more than is free or lacked, never to more than may be asked, and nothing is kept back from who lacks it."""
    offer = an_offer(free=free)
    order = ranked(offer, candidates, now=NOW)

    shares = dealt(offer, order, proposals_max=proposals_max)

    given_away = sum(quantity for _, quantity in shares)
    assert given_away <= free
    assert len(shares) <= proposals_max
    assert all(1 <= quantity <= each.candidate.open for each, quantity in shares)
    assert given_away == free or len(shares) in (proposals_max, len(order))


# -- what has to end ---------------------------------------------------------------------------------------------------


def a_supply(**changes: Any) -> Supply:
    """A ready batch with nothing left."""
    offer = an_offer()
    told: dict[str, Any] = {"status": "ready", "verified": True, "ends_at": offer.pickup_to, "free": 0, "offer": offer}
    return Supply(**(told | changes))


def a_standing(number: int, **changes: Any) -> Standing:
    """A proposal of ten, to be answered within an hour."""
    told: dict[str, Any] = {
        "id": MatchId(UUID(int=number)),
        "request_id": RequestId(UUID(int=number)),
        "line_id": LineId(UUID(int=number)),
        "status": MatchStatus.PROPOSED,
        "quantity": 10,
        "expires_at": NOW + HOUR,
        "wanted": True,
    }
    return Standing(**(told | changes))


def ended(supply: Supply, standing: Sequence[Standing], now: datetime = NOW) -> dict[int, str]:
    """Which end, and why."""
    return {each.id.int: reason for each, reason in to_end(supply, standing, now=now)}


def test_what_stands_goes_on_standing() -> None:
    """A proposal in time, of a batch that is there, for somebody who may have it, does not end."""
    assert ended(a_supply(), [a_standing(1), a_standing(2, status=MatchStatus.ACCEPTED)]) == {}


def test_when_there_is_less_the_last_proposals_end_and_promises_at_the_very_last() -> None:
    """Of three tens of which eleven are not there, the two worst end; a promise only when proposals do not suffice."""
    standing = [a_standing(1, status=MatchStatus.ACCEPTED), a_standing(2), a_standing(3)]

    assert ended(a_supply(free=-1), standing) == {3: "batch-less"}
    assert ended(a_supply(free=-11), standing) == {3: "batch-less", 2: "batch-less"}
    assert ended(a_supply(free=-30), standing).keys() == {1, 2, 3}


@pytest.mark.parametrize(
    ("supply", "reason"),
    [
        ({"status": "recalled"}, "batch-recalled"),
        ({"status": "expired"}, "batch-expired"),
        ({"verified": False}, "organization-not-verified"),
    ],
)
def test_with_the_batch_everything_ends(supply: dict[str, Any], reason: str) -> None:
    """Proposals and promises."""
    standing = [a_standing(1, status=MatchStatus.ACCEPTED), a_standing(2)]

    assert ended(a_supply(**supply), standing) == {1: reason, 2: reason}


def test_time_ends_proposals_only() -> None:
    """Without an answer in time, or when nothing can be fetched any more; a promise has 48 hours of its own."""
    standing = [a_standing(1, status=MatchStatus.ACCEPTED), a_standing(2), a_standing(3, wanted=False)]

    assert ended(a_supply(), standing, NOW + HOUR) == {2: "unanswered", 3: "organization-not-verified"}
    assert ended(a_supply(), standing[:2], NOW + 4 * HOUR) == {2: "too-late"}


def test_nobody_thinks_for_longer_than_a_quarter_of_the_time() -> None:
    """Two hours, or a quarter of what is left, or five minutes, and never beyond the end."""
    longest = 2 * HOUR
    minutes = [int(time_to_answer(longest, left=timedelta(minutes=m)).total_seconds() / 60) for m in (900, 60, 10, 3)]

    assert minutes == [120, 15, 5, 3]


def test_the_next_look_is_when_something_ends_or_an_hour_has_passed() -> None:
    """Only while something is free does a batch look by itself; when its time is over it waits for events."""
    assert next_moment(a_supply(), [NOW + 2 * HOUR, None], now=NOW) == NOW + 2 * HOUR
    assert next_moment(a_supply(), [], now=NOW) == NOW + 4 * HOUR
    assert next_moment(a_supply(free=1), [], now=NOW) == NOW + HOUR
    assert next_moment(a_supply(), [], now=NOW + 5 * HOUR) is None


def test_only_what_is_free_and_can_be_fetched_is_proposed() -> None:
    """Ready, verified, with a known place, something free and time left."""
    ready = a_supply(free=1)
    assert ready.can_be_proposed(NOW)
    assert not ready.can_be_proposed(NOW + 4 * HOUR)
    for changes in ({"free": 0}, {"verified": False}, {"offer": None}, {"status": "depleted"}):
        assert not a_supply(**({"free": 1} | changes)).can_be_proposed(NOW)


def first_of(candidates: Sequence[Candidate]) -> Ranked:
    """The best."""
    return ranked(an_offer(), candidates, now=NOW)[0]
