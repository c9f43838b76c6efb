"""Endpoints hear what they asked for, secrets overlap, and retries come when the schedule says, never early."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from chassis.kernel import InvalidTransition
from hypothesis import given
from hypothesis import strategies as st
from webhooks.domain import (
    EVENT_TYPES_MAX,
    PAYLOAD_BYTES_MAX,
    RETRY_SCHEDULE,
    Attempt,
    Endpoint,
    EndpointId,
    EndpointSettings,
    EventFilter,
    InvalidEndpoint,
    InvalidEventType,
    InvalidOverlap,
    MessageStatus,
    OrganizationId,
    Outcome,
    SigningSecret,
    TooManySecrets,
    is_success,
    next_attempt,
    rotated,
    too_large,
)

NOW = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
READY = "vouajudar.batches.batch.ready.v1"
SETTINGS = EndpointSettings(url="https://partner.example/hook")


def endpoint(*, settings: EndpointSettings = SETTINGS) -> Endpoint:
    """An active endpoint with one secret."""
    return Endpoint.create(
        EndpointId(UUID(int=1)),
        organization_id=OrganizationId(UUID(int=2)),
        settings=settings,
        sealed_secret="sealed-0",
        now=NOW,
    )


def failed(status: int | None = 500, *, retry_after_s: int | None = None) -> Attempt:
    """An attempt that was not accepted."""
    return Attempt(Outcome.FAILED, 10, status=status, retry_after_s=retry_after_s)


# ---------------------------------------------------------------- filters


@pytest.mark.parametrize(
    ("patterns", "event_type", "wanted"),
    [
        ([], READY, True),
        ([READY], READY, True),
        ([READY], "vouajudar.batches.batch.ready.v2", False),
        (["vouajudar.batches.*"], READY, True),
        (["vouajudar.batches.batch.*"], READY, True),
        (["vouajudar.batches.batch.ready.*"], READY, True),
        (["vouajudar.bat.*"], READY, False),
        (["vouajudar.batches.batch.ready.v1.*"], READY, False),
        (["vouajudar.deliveries.*", READY], READY, True),
        (["vouajudar.deliveries.*"], READY, False),
    ],
)
def test_a_filter_takes_full_types_and_prefixes_at_a_dot(patterns: list[str], event_type: str, wanted: bool) -> None:
    """A full type matches itself, a prefix everything under its dot, no filter everything."""
    assert EventFilter.of(patterns).matches(event_type) is wanted


@pytest.mark.parametrize("pattern", ["", "*", ".*", "a.*.b", "a*", "a..b", "a.", ".a", "A.b", "a b", "é.b", "a.**"])
def test_what_is_no_filter_is_refused_where_it_stands(pattern: str) -> None:
    """A pattern that could be misunderstood is refused, pointing at it."""
    with pytest.raises(InvalidEventType) as refusal:
        EventFilter.of([READY, pattern])

    assert refusal.value.details == {"pointer": "/event_types/1"}


def test_filters_are_bounded_and_repetitions_are_one() -> None:
    """At most 100 different patterns of at most 200 characters."""
    assert EventFilter.of([READY, READY]).patterns == (READY,)
    with pytest.raises(InvalidEventType):
        EventFilter.of([f"a.b{n}" for n in range(EVENT_TYPES_MAX + 1)])
    with pytest.raises(InvalidEventType):
        EventFilter.of(["a" * 201])


@pytest.mark.parametrize(
    ("patterns", "pointer"),
    [
        ([READY, "vouajudar.batches.*"], None),
        ([], None),
        ([READY, "vouajudar.batches.batch.reddy.v1"], "/event_types/1"),
    ],
)
def test_a_pattern_that_fits_no_published_type_is_refused(patterns: list[str], pointer: str | None) -> None:
    """A slip in a filter is told at once instead of never hearing anything."""
    wanted = EventFilter.of(patterns)

    if pointer is None:
        wanted.require_known([READY])
    else:
        with pytest.raises(InvalidEventType) as refusal:
            wanted.require_known([READY])
        assert refusal.value.details == {"pointer": pointer}


# ---------------------------------------------------------------- states


@pytest.mark.parametrize(
    ("steps", "status", "delivers", "holds"),
    [
        ([], "active", True, False),
        ([Endpoint.pause], "paused", False, True),
        ([Endpoint.pause, Endpoint.enable], "active", True, False),
        ([lambda e: e.mark_failing(NOW, percent=50)], "failing", True, False),
        ([lambda e: e.mark_failing(NOW, percent=50), Endpoint.mark_recovered], "active", True, False),
        ([lambda e: e.mark_failing(NOW, percent=50), Endpoint.pause], "paused", False, True),
        ([lambda e: e.mark_failing(NOW, percent=50), lambda e: e.disable("failing-too-long")], "disabled", False, True),
        ([lambda e: e.disable("gone")], "disabled", False, True),
        ([lambda e: e.disable("gone"), Endpoint.enable], "active", True, False),
        ([Endpoint.pause, lambda e: e.disable("gone")], "paused", False, True),
        ([Endpoint.pause, lambda e: e.mark_failing(NOW, percent=50)], "paused", False, True),
        ([Endpoint.mark_recovered], "active", True, False),
        ([Endpoint.delete], "deleted", False, False),
        ([Endpoint.delete, lambda e: e.disable("gone")], "deleted", False, False),
    ],
)
def test_states_follow_the_commands(
    steps: list[Callable[[Endpoint], None]], status: str, delivers: bool, holds: bool
) -> None:
    """Each command leads where the states say; what we note by ourselves never overrides the partner."""
    subject = endpoint()

    for step in steps:
        step(subject)

    assert (subject.status, subject.can_deliver(), subject.holds_messages()) == (status, delivers, holds)
    folded = Endpoint.fold(subject.id, subject.pending)
    assert folded == subject


@pytest.mark.parametrize(
    "command",
    [
        Endpoint.pause,
        Endpoint.enable,
        Endpoint.delete,
        lambda e: e.change(SETTINGS),
        lambda e: e.rotate_secret("sealed", now=NOW),
    ],
)
def test_a_deleted_endpoint_is_frozen(command: Callable[[Endpoint], None]) -> None:
    """Nothing happens to a deleted endpoint any more."""
    subject = endpoint()
    subject.delete()

    with pytest.raises(InvalidTransition):
        command(subject)

    assert not subject.wants(READY)
    assert subject.secrets == ()


def test_pausing_twice_tells_what_is_possible() -> None:
    """A command that does not fit names the ones that do."""
    subject = endpoint()
    subject.pause()

    with pytest.raises(InvalidTransition) as refusal:
        subject.pause()

    assert refusal.value.details["allowed"] == ["enable", "delete"]


def test_commands_without_effect_record_nothing() -> None:
    """Enabling what is active, the same settings and repeated notes leave no event."""
    subject = endpoint()
    subject.enable()
    subject.change(EndpointSettings(url="https://partner.example/hook"))
    subject.mark_failing(NOW, percent=50)
    subject.mark_failing(NOW + HOUR, percent=50)

    assert len(subject.pending) == 2
    assert subject.failing_since == NOW


def test_enabling_forgets_the_trouble() -> None:
    """After enabling neither reason nor time of the failure is left."""
    subject = endpoint()
    subject.mark_failing(NOW, percent=50)
    subject.disable("failing-too-long")
    subject.enable()

    assert (subject.disabled_reason, subject.failing_since) == (None, None)


def test_an_owner_is_told_once_per_notice() -> None:
    """50, then 90; a repetition, or less than before, is no news, and the beginning stays the first one."""
    subject = endpoint()
    for percent in (50, 50, 90, 50, 90):
        subject.mark_failing(NOW + HOUR * percent, percent=percent)

    assert len(subject.pending) == 3
    assert (subject.failing_percent, subject.failing_since) == (90, NOW + HOUR * 50)


def test_only_who_names_a_type_names_it() -> None:
    """An empty filter matches everything and asks for nothing by name."""
    everything, named = EventFilter.of([]), EventFilter.of(["vouajudar.batches.*"])

    assert (everything.matches(READY), everything.names(READY)) == (True, False)
    assert (named.matches(READY), named.names(READY)) == (True, True)


def test_an_event_that_is_too_large_is_not_tried_again() -> None:
    """It ends at once, and says nothing about the receiver."""
    attempt = too_large(PAYLOAD_BYTES_MAX + 1)

    assert next_attempt(1, attempt, NOW, 0).status is MessageStatus.EXHAUSTED
    assert not attempt.tells_of_the_receiver
    assert failed(413).tells_of_the_receiver


def test_changed_settings_count_at_once() -> None:
    """Another filter decides about the next event."""
    subject = endpoint()
    subject.change(EndpointSettings(url="https://partner.example/2", event_types=EventFilter.of(["vouajudar.x.*"])))

    assert not subject.wants(READY)
    assert subject.settings.url == "https://partner.example/2"


@pytest.mark.parametrize(
    "bad",
    [
        {"description": "x" * 501},
        {"rate_per_s": 0},
        {"rate_per_s": 1001},
        {"timeout_s": 0},
        {"timeout_s": 31},
        {"retry_schedule_s": (0,)},
        {"retry_schedule_s": (86_401,)},
        {"retry_schedule_s": (1,) * 21},
    ],
)
def test_settings_have_bounds(bad: dict[str, object]) -> None:
    """What is out of bounds is refused, pointing at it."""
    with pytest.raises(InvalidEndpoint) as refusal:
        EndpointSettings(url="https://partner.example/", **bad)  # type: ignore[arg-type]

    assert refusal.value.details == {"pointer": f"/{next(iter(bad))}"}


# ---------------------------------------------------------------- secrets


def test_two_rotations_leave_three_signing_secrets_until_the_overlap_ends() -> None:
    """Each old secret signs on for its own overlap, counted from its rotation; the newest comes first."""
    subject = endpoint()
    subject.rotate_secret("sealed-1", now=NOW)
    subject.rotate_secret("sealed-2", now=NOW + HOUR)

    def sealed_at(now: datetime) -> list[str]:
        return [secret.sealed for secret in subject.valid_secrets(now)]

    assert sealed_at(NOW + HOUR) == ["sealed-2", "sealed-1", "sealed-0"]
    assert sealed_at(NOW + 24 * HOUR) == ["sealed-2", "sealed-1"]
    assert sealed_at(NOW + 25 * HOUR) == ["sealed-2"]


def test_no_overlap_ends_the_old_secret_at_once() -> None:
    """A leaked secret can be dropped immediately."""
    subject = endpoint()
    subject.rotate_secret("sealed-1", now=NOW, overlap=timedelta(0))

    assert [secret.sealed for secret in subject.secrets] == ["sealed-1"]


def test_an_eleventh_old_secret_is_refused() -> None:
    """At most ten old secrets sign beside the newest; room comes back as they run out."""
    secrets: tuple[SigningSecret, ...] = (SigningSecret("sealed-0", NOW),)
    for n in range(1, 11):
        secrets = rotated(secrets, sealed=f"sealed-{n}", now=NOW)
    assert len(secrets) == 11

    with pytest.raises(TooManySecrets):
        rotated(secrets, sealed="sealed-11", now=NOW + HOUR)
    assert len(rotated(secrets, sealed="sealed-11", now=NOW + 24 * HOUR)) == 2


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=7, seconds=1)])
def test_an_overlap_outside_seven_days_is_refused(overlap: timedelta) -> None:
    """Old secrets live 0 to 7 days."""
    with pytest.raises(InvalidOverlap):
        rotated([SigningSecret("sealed-0", NOW)], sealed="sealed-1", now=NOW, overlap=overlap)


# ---------------------------------------------------------------- retries


@pytest.mark.parametrize("status", [200, 204, 299])
def test_2xx_delivers(status: int) -> None:
    """Any 2xx is success."""
    assert is_success(status)
    assert next_attempt(1, Attempt(Outcome.DELIVERED, 1, status=status), NOW, 0).status is MessageStatus.DELIVERED


@pytest.mark.parametrize("status", [100, 199, 300, 304, 308, 400, 500])
def test_nothing_else_delivers(status: int) -> None:
    """Informational answers, redirects and errors are no success."""
    assert not is_success(status)


def test_ten_attempts_in_75_hours() -> None:
    """Nine waits follow nine failures; the tenth failure exhausts the message."""
    waits = [next_attempt(made, failed(), NOW, 0) for made in range(1, 10)]

    assert [(decision.next_at or NOW) - NOW for decision in waits] == list(RETRY_SCHEDULE)
    assert timedelta(hours=75) < sum(RETRY_SCHEDULE, timedelta()) < timedelta(hours=76)
    assert next_attempt(10, failed(), NOW, 0).status is MessageStatus.EXHAUSTED


@pytest.mark.parametrize(
    "attempt",
    [
        failed(403),
        failed(308),
        failed(None),
        Attempt(Outcome.FAILED, 1, status=200, error="timeout"),
        Attempt(Outcome.REFUSED, 1, error="url-not-allowed"),
    ],
)
def test_every_other_failure_is_retried(attempt: Attempt) -> None:
    """Refusals, redirects, broken answers and forbidden addresses may all be temporary."""
    decision = next_attempt(1, attempt, NOW, 0)

    assert (decision.status, decision.next_at) == (MessageStatus.RETRYING, NOW + timedelta(seconds=5))


def test_gone_ends_the_message_and_disables_the_endpoint() -> None:
    """410 is the receiver's way to say never again."""
    decision = next_attempt(1, failed(410), NOW, 0)

    assert (decision.status, decision.next_at, decision.disable_endpoint) == (MessageStatus.EXHAUSTED, None, True)


@pytest.mark.parametrize(
    ("made", "status", "hint_s", "wait"),
    [
        (1, 429, 60, timedelta(seconds=60)),
        (1, 503, 60, timedelta(seconds=60)),
        (2, 429, 60, timedelta(minutes=5)),
        (1, 500, 60, timedelta(seconds=5)),
        (1, 429, 0, timedelta(seconds=5)),
        (1, 429, 30 * 86_400, timedelta(hours=24)),
        (9, 429, 30 * 86_400, timedelta(hours=24)),
    ],
)
def test_a_hint_lengthens_a_wait_up_to_a_day(made: int, status: int, hint_s: int, wait: timedelta) -> None:
    """The longer of step and hint counts, a hint for 24 h at most, on 429 and 503 only."""
    assert next_attempt(made, failed(status, retry_after_s=hint_s), NOW, 0).next_at == NOW + wait


@given(
    made=st.integers(1, 9),
    jitter=st.floats(0, 0.2),
    hint=st.none() | st.integers(0, 10**8),
    status=st.integers(400, 599),
)
def test_a_retry_is_never_early_and_at_most_a_fifth_late(
    made: int, jitter: float, hint: int | None, status: int
) -> None:
    """Jitter only lengthens, by 20 % at most, a hint included."""
    decision = next_attempt(made, failed(status, retry_after_s=hint), NOW, jitter)
    if status == 410:
        return
    assert decision.next_at is not None
    wait = decision.next_at - NOW
    assert RETRY_SCHEDULE[made - 1] <= wait <= timedelta(hours=24) * 1.2


def test_an_empty_schedule_means_one_attempt() -> None:
    """Without steps the first failure is the last, a hint or not."""
    assert next_attempt(1, failed(429, retry_after_s=5), NOW, 0, schedule=()).status is MessageStatus.EXHAUSTED


@pytest.mark.parametrize(("made", "jitter"), [(0, 0.0), (1, -0.1), (1, 0.3)])
def test_a_caller_that_is_wrong_is_told(made: int, jitter: float) -> None:
    """No attempt yet, or jitter outside its bounds, is a mistake of ours."""
    with pytest.raises(ValueError, match="jitter"):
        next_attempt(made, failed(), NOW, jitter)


def test_a_message_is_retried_by_hand_when_nothing_is_under_way() -> None:
    """What ended or waits may be tried again; what is due, under way, held or cancelled may not."""
    assert {status for status in MessageStatus if status.can_be_retried} == {"retrying", "exhausted", "delivered"}


# ---------------------------------------------------------------- parties


def test_parties_narrow_what_is_wanted() -> None:
    """With parties an event has to concern one of them, and to be of a wanted type as well."""
    one, other = UUID(int=1), UUID(int=2)
    settings = EndpointSettings(url=SETTINGS.url, event_types=EventFilter.of(["vouajudar.batches.*"]), parties=(one,))

    assert settings.wants(READY, [other, one])
    assert not settings.wants(READY, [other])
    assert not settings.wants("vouajudar.deliveries.delivery.planned.v1", [one])
    assert EndpointSettings(url=SETTINGS.url).wants(READY, [])
    with pytest.raises(InvalidEndpoint, match="parties"):
        EndpointSettings(url=SETTINGS.url, parties=tuple(UUID(int=n) for n in range(101)))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=5))
def test_the_patterns_that_cover_a_type_are_those_that_match_it(parts: list[str]) -> None:
    """Each of them matches, and there is one per place where a prefix may end."""
    covering = EventFilter.covering(".".join(parts))

    assert len(covering) == len(parts)
    assert all(EventFilter.of([pattern]).matches(".".join(parts)) for pattern in covering)
