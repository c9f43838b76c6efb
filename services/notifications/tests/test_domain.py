"""When a mail may go, when trying again ends, and links that nobody else can make."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notifications.domain import (
    ATTEMPTS_MAX,
    TELLINGS,
    Fact,
    Kind,
    Mail,
    Party,
    Preferences,
    QuietHours,
    Status,
    TimeZoneUnknown,
    UnsubscribeLinkUnknown,
    WantedContact,
    unsubscribe_token,
    user_of,
    zone_of,
)

SECRET = b"s" * 32
USER = UUID("018f4d3e-0000-7000-8000-000000000001")
NOON = datetime(2026, 1, 15, 15, 0, tzinfo=UTC)  # 12:00 in São Paulo


def quiet(from_: str, to: str, tz: str = "America/Sao_Paulo") -> QuietHours:
    """Quiet hours from clock times."""
    return QuietHours(time.fromisoformat(from_), time.fromisoformat(to), tz)


def a_mail(**changes: object) -> Mail:
    """A mail at its first attempt."""
    given: dict[str, object] = {
        "message_id": USER, "attempt": 1, "user_id": USER, "kind": Kind.DELIVERY_OPENED, "context": {}, "critical": False,
        "locale": "en", "preferences": Preferences(), "correlation_id": "c", "traceparent": "t", "address": "a@b.example",
        **changes,
    }  # fmt: skip
    return Mail(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hours", "now", "end"),
    [
        (quiet("11:00", "13:00"), NOON, NOON + timedelta(hours=1)),
        (quiet("12:00", "13:00"), NOON, NOON + timedelta(hours=1)),
        (quiet("11:00", "12:00"), NOON, None),
        (quiet("13:00", "14:00"), NOON, None),
        (quiet("12:00", "12:00"), NOON, None),
        (quiet("22:00", "07:00"), NOON, None),
        (quiet("22:00", "07:00"), NOON + timedelta(hours=11), NOON + timedelta(hours=19)),
        (quiet("22:00", "07:00"), NOON - timedelta(hours=10), NOON - timedelta(hours=5)),
        (quiet("22:00", "07:00", "UTC"), NOON + timedelta(hours=8), NOON + timedelta(hours=16)),
    ],
)
def test_quiet_hours_are_those_of_the_persons_clock(hours: QuietHours, now: datetime, end: datetime | None) -> None:
    """Half-open, over midnight when they end before they begin, in the person's own zone."""
    assert hours.end(now) == end


@given(
    from_=st.times(), to=st.times(), tz=st.sampled_from(["America/Sao_Paulo", "Europe/Berlin", "Australia/Lord_Howe"]),
    now=st.integers(1_600_000_000, 1_900_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)  # fmt: skip
def test_quiet_always_ends_within_a_day(from_: time, to: time, tz: str, now: datetime) -> None:
    """Whatever the hours and the clock changes, the end is ahead and at most a day (and a clock change) away."""
    end = QuietHours(from_, to, tz).end(now)

    assert end is None or timedelta(0) < end - now <= timedelta(hours=25)


def test_a_mail_that_may_go_goes() -> None:
    """Nothing stands against an ordinary mail."""
    assert a_mail().before_sending(NOON) is None


@pytest.mark.parametrize(
    ("changes", "status", "failure"),
    [
        ({"address": None}, Status.FAILED, "no-address"),
        ({"preferences": Preferences(email=False), "critical": True}, Status.SUPPRESSED, "not-wanted"),
        ({"attempt": ATTEMPTS_MAX + 1}, Status.FAILED, "interrupted"),
        ({"preferences": Preferences(quiet_hours=quiet("11:00", "13:00"))}, Status.DEFERRED, None),
    ],
)
def test_what_keeps_a_mail_from_going(changes: dict[str, object], status: Status, failure: str | None) -> None:
    """No address, not wanted, given up, or quiet now."""
    outcome = a_mail(**changes).before_sending(NOON)

    assert outcome is not None
    assert (outcome.status, outcome.failure) == (status, failure)


def test_a_critical_mail_passes_quiet_hours() -> None:
    """A recall wakes people."""
    wishes = Preferences(quiet_hours=quiet("11:00", "13:00"))

    assert a_mail(critical=True, preferences=wishes).before_sending(NOON) is None


def test_trouble_is_tried_again_later_and_later_and_ends() -> None:
    """Eight attempts with growing pauses, all within the day that a message lives; a refusal ends at once."""
    outcomes = [
        a_mail(attempt=n).after_trouble("timeout", permanent=False, now=NOON) for n in range(1, ATTEMPTS_MAX + 1)
    ]
    pauses = [outcome.due_at - NOON for outcome in outcomes if outcome.due_at is not None]

    assert pauses == sorted(pauses)
    assert len(pauses) == ATTEMPTS_MAX - 1 == 7
    assert sum(pauses, timedelta()) < timedelta(hours=24)
    assert [outcome.status for outcome in outcomes] == [Status.QUEUED] * 7 + [Status.FAILED]
    assert a_mail().after_trouble("refused", permanent=True, now=NOON).status is Status.FAILED


def test_identity_is_asked_ever_less_often() -> None:
    """From 1 s up to 5 min, whatever the number of attempts."""
    delays = [WantedContact(USER, n).retry_delay_s for n in (1, 2, 3, 9, 10, 1000)]

    assert delays == [1, 2, 4, 256, 300, 300]


@given(user=st.uuids())
def test_an_unsubscribe_link_is_its_owners(user: UUID) -> None:
    """A token leads back to the person it was made for."""
    assert user_of(SECRET, unsubscribe_token(SECRET, user)) == user


@given(junk=st.text(max_size=80))
def test_no_other_link_counts(junk: str) -> None:
    """Junk, altered tokens and those of another secret are unknown."""
    good = unsubscribe_token(SECRET, USER)
    altered = ("A" if good[0] != "A" else "B") + good[1:]
    for token in (junk, good[:-2], good + "AA", altered, unsubscribe_token(b"t" * 32, USER), ""):
        with pytest.raises(UnsubscribeLinkUnknown):
            user_of(SECRET, token)


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "America", "a" * 300, "a\0b"]
)
def test_only_zones_of_this_earth_count(name: str) -> None:
    """A name that is no IANA zone is refused, whatever it does to the file system."""
    with pytest.raises(TimeZoneUnknown):
        zone_of(name)


def test_the_actor_is_a_party_like_any_other_until_told_apart() -> None:
    """Organizations and people come sorted and once each; only parties that the telling names count."""
    fact = Fact(
        event_id=USER, name="DeliveryOpened", type="t", subject=USER, version=1, happened_at=NOON, context={},
        parties={Party.PROVIDER: [USER, USER], Party.RECEIVER: [USER], Party.VOLUNTEER: [USER]},
    )  # fmt: skip

    assert (fact.organization_ids, fact.person_ids) == ([USER], [])
    assert TELLINGS["DeliveryOpened"].kind is Kind.DELIVERY_OPENED
