"""Who judges the faults is judged first: each way to break the invariant is seen, and named."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from chassis.kernel import new_id
from chassis.testing.judge import Event, Verdict, compare

STREAM, OTHER = new_id(), new_id()
SENT: list[Event] = [(STREAM, version, new_id()) for version in (1, 2, 3)] + [(OTHER, 1, new_id())]
ONE, TWO, THREE, ALONE = SENT


def judged(consumer: str, applied: Sequence[Event], *, dead: Sequence[Event] = ()) -> Verdict:
    """What is said of a consumer that applied these, in this order."""
    found = Verdict(sent=len(SENT), dead={consumer: {event[2] for event in dead}})
    compare(found, consumer, SENT, applied)
    return found


@pytest.mark.parametrize("consumer", ["any", "gated", "monotonic"])
def test_everything_once_in_order_holds(consumer: str) -> None:
    """The order of different aggregates does not matter."""
    assert judged(consumer, [ONE, ALONE, TWO, THREE]).holds


@pytest.mark.parametrize("consumer", ["any", "gated"])
def test_a_lost_event_is_named(consumer: str) -> None:
    """By consumer, aggregate, version and id; unless it is a dead letter of this consumer."""
    assert judged(consumer, [ONE, TWO, ALONE]).lost == [f"{consumer}: {STREAM} v3 {THREE[2]}"]
    assert judged(consumer, [ONE, TWO, ALONE], dead=[THREE]).holds


@pytest.mark.parametrize("consumer", ["any", "gated", "monotonic"])
def test_a_doubled_event_is_named(consumer: str) -> None:
    """However often it was applied."""
    assert judged(consumer, [ONE, TWO, TWO, THREE, ALONE]).doubled == [f"{consumer}: {STREAM} v2 {TWO[2]}"]


def test_order_is_asked_of_those_who_promise_it() -> None:
    """A later event before an earlier one is a fault of a consumer with an order, and is only counted of others."""
    swapped = [TWO, ONE, THREE, ALONE]

    assert [len(judged(consumer, swapped).out_of_order) for consumer in ("any", "gated", "monotonic")] == [0, 1, 1]
    assert judged("any", swapped).overtaken == 1


def test_a_consumer_of_the_newest_may_leave_out_older_ones() -> None:
    """But not the newest itself."""
    assert judged("monotonic", [ONE, THREE, ALONE]).holds
    assert len(judged("monotonic", [ONE, TWO, ALONE]).lost) == 1


def test_an_event_that_was_never_sent_is_named() -> None:
    """A rolled-back one, say."""
    assert len(judged("any", [*SENT, (OTHER, 2, new_id())]).invented) == 1


def test_what_is_under_way_is_no_rest() -> None:
    """A message left anywhere is a fault, whatever was applied."""
    verdict = Verdict(restless=["producer's outbox: 1"])

    assert not verdict.holds
    assert "producer's outbox: 1" in str(verdict)
