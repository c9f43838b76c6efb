"""When an endpoint is left alone, when its owner is told, and when it is switched off."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from webhooks.domain import BREAKER_FAILURES, EXHAUSTED_MAX, Health

NOW = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def after(*moments: timedelta, exhausted: bool = False) -> Health:
    """How it fares after failures at these moments."""
    health = Health()
    for moment in moments:
        health = health.after_failure(NOW + moment, exhausted=exhausted)
    return health


def test_a_new_endpoint_is_healthy() -> None:
    """Nothing is noticed and nothing is open before something fails."""
    assert (Health().percent, Health().notice, Health().disabled_reason, Health().open_until) == (0, 0, None, None)


@pytest.mark.parametrize(
    ("given_up", "percent", "notice"), [(1, 5, 0), (9, 45, 0), (10, 50, 50), (17, 85, 50), (18, 90, 90), (19, 95, 90)]
)
def test_notices_by_count(given_up: int, percent: int, notice: int) -> None:
    """At half and at nine tenths of the messages in a row that switch it off."""
    health = after(*[HOUR / 10 * n for n in range(given_up)], exhausted=True)

    assert (health.percent, health.notice, health.disabled_reason) == (percent, notice, None)


def test_off_by_count() -> None:
    """Twenty given up in a row, however quickly."""
    assert after(*[timedelta()] * EXHAUSTED_MAX, exhausted=True).disabled_reason == "exhausted"


@pytest.mark.parametrize(
    ("days", "notice", "reason"),
    [(2.4, 0, None), (2.5, 50, None), (4.4, 50, None), (4.5, 90, None), (5, 90, "failing")],
)
def test_notices_and_off_by_time(days: float, notice: int, reason: str | None) -> None:
    """Half, nine tenths and all of five days, counted from failure to failure."""
    steps = int(days * 24 / 1.2)
    health = after(*[timedelta(days=days) / steps * n for n in range(steps + 1)])

    assert (health.notice, health.disabled_reason) == (notice, reason)


def test_failures_within_twelve_hours_are_one_trouble() -> None:
    """A thousand failures in an afternoon say nothing about days."""
    assert after(*[HOUR * 11.9 / 1000 * n for n in range(1000)]).percent == 0


def test_the_longest_wait_of_a_retry_is_no_gap() -> None:
    """24 h and a fifth of jitter between two attempts: all that was tried failed."""
    assert after(*[DAY * 1.2 * n for n in range(6)]).disabled_reason == "failing"


def test_a_longer_gap_begins_anew() -> None:
    """A failure now and then is not days of failing."""
    health = after(*[DAY * 1.6 * n for n in range(20)])

    assert (health.percent, health.failing_from) == (0, NOW + DAY * 1.6 * 19)


def test_the_breaker_opens_after_ten_failures_and_longer_after_each_probe() -> None:
    """5 s, 10 s, 20 s, up to 5 min."""
    health, now, waits = after(*[timedelta()] * (BREAKER_FAILURES - 1)), NOW, []
    assert health.open_until is None
    for _ in range(9):
        health = health.after_failure(now, exhausted=False)
        assert health.open_until is not None
        waits.append((health.open_until - now).total_seconds())
        now = health.open_until

    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_what_was_under_way_does_not_keep_the_breaker_open_longer() -> None:
    """Ten that hang together open it once."""
    once = after(*[timedelta()] * BREAKER_FAILURES)
    more = after(*[timedelta()] * (2 * BREAKER_FAILURES))

    assert (more.open_until, more.failures) == (once.open_until, once.failures)
