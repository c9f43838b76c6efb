"""How an endpoint fares: when nothing is sent for a moment, when its owner is told, and when it is switched off.

Two things are counted since the last acceptance: attempts that failed in a row, which open a breaker, and messages that
were given up in a row; and the time is taken. Told the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

BREAKER_FAILURES = 10  # as many as an endpoint has slots: one round of a receiver that hangs
OPEN_MIN = timedelta(seconds=5)  # as the first retry
OPEN_MAX = timedelta(minutes=5)  # a receiver that came back is found within this
EXHAUSTED_MAX = 20
FAILING_MAX = timedelta(days=5)
WINDOWS_APART = timedelta(hours=12)  # failures closer to each other are one trouble, however many
# Longer than any wait of a retry (24 h and a fifth): a gap like this means that nothing was tried, not that all failed.
SPORADIC_AFTER = timedelta(hours=36)
NOTICES = (50, 90)  # percent of the way to being switched off, which is the notice at 100
EXHAUSTED_REASON, FAILING_REASON, GONE_REASON = "exhausted", "failing", "gone"


@dataclass(frozen=True, slots=True)
class Health:
    """What came of the attempts since the last one that was accepted; a new one is that of a healthy endpoint."""

    failures: int = 0
    exhausted: int = 0
    failing_from: datetime | None = None
    failed_at: datetime | None = None
    open_until: datetime | None = None

    def after_failure(self, now: datetime, *, exhausted: bool) -> Health:
        """One more attempt failed; `exhausted` when its message was given up with it.

        What was under way when the breaker opened does not keep it open longer.
        """
        was_open = self.open_until is not None and now < self.open_until
        failures = self.failures if was_open else self.failures + 1
        return Health(
            failures=failures,
            exhausted=self.exhausted + exhausted,
            failing_from=now if self._is_over(now) else self.failing_from,
            failed_at=now,
            open_until=self.open_until if was_open else _open_until(failures, now),
        )

    @property
    def percent(self) -> int:
        """How far it is on the way to being switched off, by count or by time, whichever is further."""
        return max(100 * self.exhausted // EXHAUSTED_MAX, 100 * self._failing_for // FAILING_MAX)

    @property
    def disabled_reason(self) -> str | None:
        """Why it is to be switched off, if it is."""
        if self.exhausted >= EXHAUSTED_MAX:
            return EXHAUSTED_REASON
        return FAILING_REASON if self._failing_for >= FAILING_MAX else None

    @property
    def notice(self) -> int:
        """The highest notice that is due by now, 0 for none."""
        return max((notice for notice in NOTICES if self.percent >= notice), default=0)

    @property
    def _failing_for(self) -> timedelta:
        """Nothing, until there were failures in two windows."""
        if self.failing_from is None or self.failed_at is None:
            return timedelta(0)
        lasted = self.failed_at - self.failing_from
        return lasted if lasted >= WINDOWS_APART else timedelta(0)

    def _is_over(self, now: datetime) -> bool:
        return self.failed_at is None or now - self.failed_at > SPORADIC_AFTER


def _open_until(failures: int, now: datetime) -> datetime | None:
    """After ten failures nothing goes out for 5 s; each probe that fails doubles that, up to 5 min."""
    if failures < BREAKER_FAILURES:
        return None
    closed = OPEN_MIN * (1 << min(failures - BREAKER_FAILURES, 16))
    return now + min(closed, OPEN_MAX)
