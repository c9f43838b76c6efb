"""What holds endpoints apart, on a real database: rate, breaker, order; each over as many processes as there are."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from chassis.database import Database
from chassis.kernel import new_id
from webhooks import repository
from webhooks.domain import BREAKER_FAILURES, Endpoint, MessageStatus

from services.webhooks.tests.engine import (
    an_endpoint,
    claimed,
    everything_is_due,
    finished,
    lapse,
    loaded,
    record,
    save,
    some_messages,
    statuses,
    sweep,
)

DELIVERED, RETRYING, EXHAUSTED = MessageStatus.DELIVERED, MessageStatus.RETRYING, MessageStatus.EXHAUSTED

# ---------------------------------------------------------------- rate


async def test_a_rate_parks_what_is_above_it_and_uses_no_attempt(empty: Database) -> None:
    """Ten a second lets one through, at once one more is too many; what waits has lost nothing."""
    endpoint = await an_endpoint(empty, rate_per_s=10)
    await some_messages(empty, endpoint, 5)

    assert len(await claimed(empty)) == 1
    assert await claimed(empty) == []
    assert sorted(await statuses(empty, endpoint)) == [("delivering", 0)] + [("pending", 0)] * 4


async def test_a_rate_holds_over_all_processes(empty: Database) -> None:
    """Whatever claims, and however many at once, in a while no more goes out than the rate allows and a tenth of it."""
    endpoint = await an_endpoint(empty, rate_per_s=100)
    await some_messages(empty, endpoint, 120)
    began, taken = datetime.now(UTC), 0

    while datetime.now(UTC) - began < timedelta(seconds=0.6):
        pieces = [piece for found in await asyncio.gather(*(claimed(empty) for _ in range(4))) for piece in found]
        await record(empty, [finished(piece, DELIVERED) for piece in pieces])
        taken += len(pieces)
    lasted_s = (datetime.now(UTC) - began).total_seconds()

    assert 20 <= taken <= 100 * lasted_s + 10 + 1


async def test_without_a_rate_only_slots_count(empty: Database) -> None:
    """A fast endpoint is never slowed by another one's rate."""
    slow, fast = await an_endpoint(empty, rate_per_s=1), await an_endpoint(empty)
    await some_messages(empty, slow, 9)
    await some_messages(empty, fast, 9)

    taken = [piece.endpoint_id for piece in await claimed(empty)]

    assert (taken.count(slow.id), taken.count(fast.id)) == (1, 9)


async def test_messages_without_a_gate_are_not_forgotten(empty: Database) -> None:
    """Whatever wrote them: the sweeper makes the gate that storing would have made."""
    await some_messages(empty, await an_endpoint(empty), 2)
    await empty.pool.execute("DELETE FROM webhook_gates")
    before = await claimed(empty)

    await sweep(empty)

    assert (before, len(await claimed(empty))) == ([], 2)


# ---------------------------------------------------------------- breaker


async def _broken(database: Database) -> Endpoint:
    """An endpoint whose last ten attempts failed at once, with five more messages to send."""
    endpoint = await an_endpoint(database)
    await some_messages(database, endpoint, BREAKER_FAILURES)
    await record(database, [finished(piece, RETRYING, wait_s=3600) for piece in await claimed(database)])
    await some_messages(database, endpoint, 5)
    return endpoint


async def _breaker_ends(database: Database) -> None:
    await database.pool.execute("UPDATE webhook_gates SET open_until = now() WHERE open_until IS NOT NULL")


async def test_an_open_breaker_lets_nothing_through_and_uses_no_attempt(empty: Database) -> None:
    """After ten failures in a row the endpoint is left alone; what waits has lost no attempt."""
    endpoint = await _broken(empty)

    assert await claimed(empty) == []
    assert sorted(await statuses(empty, endpoint)) == [("pending", 0)] * 5 + [("retrying", 1)] * 10


async def test_a_half_open_breaker_lets_one_probe_through(empty: Database) -> None:
    """However many processes ask; an acceptance closes it, a failure opens it for longer."""
    await _broken(empty)
    await _breaker_ends(empty)

    (probe,) = [piece for pieces in await asyncio.gather(*(claimed(empty) for _ in range(8))) for piece in pieces]
    assert await claimed(empty) == []
    await record(empty, [finished(probe, RETRYING, wait_s=3600)])
    assert await claimed(empty) == []
    open_for = await empty.pool.fetchval("SELECT open_until - now() FROM webhook_gates")
    await _breaker_ends(empty)
    (probe,) = await claimed(empty)
    await record(empty, [finished(probe, DELIVERED)])

    assert timedelta(seconds=9) < open_for <= timedelta(seconds=10)
    assert len(await claimed(empty)) == 3


async def test_a_probe_that_was_lost_is_made_again(empty: Database) -> None:
    """A process that dies with the probe in hand leaves the endpoint to the next when the lease is over."""
    await _broken(empty)
    await _breaker_ends(empty)
    assert len(await claimed(empty)) == 1

    await lapse(empty)

    assert len(await claimed(empty)) == 1


async def test_owners_close_the_breaker_by_enabling(empty: Database) -> None:
    """Nobody waits for a probe who says that the endpoint is well again."""
    endpoint = await _broken(empty)
    async with empty.command() as tx:
        repository.heal(tx, endpoint.id)

    assert len(await claimed(empty)) == 5


# ---------------------------------------------------------------- order


async def test_one_of_each_subject_is_under_way_in_its_order(empty: Database) -> None:
    """The next event of an aggregate goes when the one before it is over, whatever came into the database first."""
    endpoint, subject = await an_endpoint(empty, ordered=True), new_id()
    (second,) = await some_messages(empty, endpoint, subject=subject, first=2)
    (first, third) = [(await some_messages(empty, endpoint, subject=subject, first=version))[0] for version in (1, 3)]
    await everything_is_due(empty)

    sent = []
    for _ in range(3):
        (piece,) = await claimed(empty)
        assert await claimed(empty) == []
        await record(empty, [finished(piece, DELIVERED)])
        sent.append(piece.message_id)

    assert sent == [first, second, third]
    assert await claimed(empty) == []


async def test_a_blocked_aggregate_does_not_hold_the_others(empty: Database) -> None:
    """While one aggregate's event waits for its retry, its successors wait and everybody else's events go."""
    endpoint, blocked = await an_endpoint(empty, ordered=True), new_id()
    ids = await some_messages(empty, endpoint, 30, subject=blocked)
    await everything_is_due(empty)
    (head,) = await claimed(empty)
    await record(empty, [finished(head, RETRYING, wait_s=3600)])
    others = await some_messages(empty, endpoint, 5)
    await everything_is_due_but(empty, head.message_id)

    taken = await claimed(empty)

    assert head.message_id == ids[0]
    assert sorted(piece.message_id for piece in taken) == sorted(others)
    assert await claimed(empty) == []


async def everything_is_due_but(database: Database, message_id: object) -> None:
    await database.pool.execute(
        "UPDATE webhook_messages SET due_at = now() WHERE status = 'pending' AND id <> $1", message_id
    )


async def test_what_was_given_up_blocks_nobody(empty: Database) -> None:
    """An exhausted event is passed by; its successor goes at once."""
    endpoint, subject = await an_endpoint(empty, ordered=True), new_id()
    ids = await some_messages(empty, endpoint, 2, subject=subject)
    await everything_is_due(empty)
    (first,) = await claimed(empty)

    await record(empty, [finished(first, EXHAUSTED)])

    assert [piece.message_id for piece in await claimed(empty)] == ids[1:]


async def test_held_ones_come_in_order_too(empty: Database) -> None:
    """What was held while the endpoint was paused goes before what came after, though it is released bit by bit."""
    endpoint, subject = await an_endpoint(empty, ordered=True), new_id()
    ids = await some_messages(empty, endpoint, 2, subject=subject)
    await empty.pool.execute("UPDATE webhook_messages SET status = 'held' WHERE id = $1", ids[0])
    await everything_is_due(empty)

    assert await claimed(empty) == []


async def test_an_endpoint_without_order_sends_a_subjects_events_at_once(empty: Database) -> None:
    """Order is for who asks for it."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint, 5, subject=new_id())

    assert len(await claimed(empty)) == 5


# ---------------------------------------------------------------- health


async def _exhaust(database: Database, endpoint: Endpoint, count: int, *, now: datetime | None = None) -> None:
    for _ in range(count):
        await some_messages(database, endpoint)
        await everything_is_due(database)
        (piece,) = await claimed(database)
        await record(database, [finished(piece, EXHAUSTED)], now=now)


async def test_twenty_given_up_in_a_row_switch_an_endpoint_off(empty: Database) -> None:
    """Its owner is told at 50, 90 and 100 percent, each once, and what comes after is held."""
    endpoint = await an_endpoint(empty)
    seen = []
    for _ in range(20):
        await _exhaust(empty, endpoint, 1)
        now = await loaded(empty, endpoint)
        seen.append((now.status, now.failing_percent))
    await some_messages(empty, endpoint)
    await everything_is_due(empty)

    assert seen == [("active", 0)] * 9 + [("failing", 50)] * 8 + [("failing", 90)] * 2 + [("disabled", 90)]
    assert (await loaded(empty, endpoint)).disabled_reason == "exhausted"
    assert await claimed(empty) == []
    assert (await statuses(empty, endpoint))[-1] == ("held", 0)
    assert await _announced(empty) == [
        ("endpoint.failing.v1", 2),
        ("endpoint.disabled.v1", 1),
        ("message.exhausted.v1", 20),
    ]


async def _announced(database: Database) -> list[tuple[str, int]]:
    rows = await database.pool.fetch(
        "SELECT routing_key, count(*) AS count FROM outbox GROUP BY 1 ORDER BY position('endpoint.f' in routing_key) DESC,"
        " position('endpoint' in routing_key) DESC"
    )
    return [(row["routing_key"], row["count"]) for row in rows]


async def test_one_acceptance_begins_the_count_anew(empty: Database) -> None:
    """Nineteen given up, one accepted, one given up: nothing is switched off, and the owner hears of the recovery."""
    endpoint = await an_endpoint(empty)
    await _exhaust(empty, endpoint, 19)
    await some_messages(empty, endpoint)
    await everything_is_due(empty)
    (piece,) = await claimed(empty)
    await record(empty, [finished(piece, DELIVERED)])
    recovered = await loaded(empty, endpoint)
    await _exhaust(empty, endpoint, 1)

    assert (recovered.status, recovered.failing_since, recovered.failing_percent) == ("active", None, 0)
    assert (await loaded(empty, endpoint)).status == "active"
    assert ("endpoint.recovered.v1", 1) in await _announced(empty)


async def test_disabled_by_window_not_by_sporadic_failure(empty: Database) -> None:
    """Failing every six hours for five days switches an endpoint off; failing every other day, for weeks, does not."""
    steady, sporadic = await an_endpoint(empty), await an_endpoint(empty)
    began = datetime.now(UTC)

    for hours in range(0, 5 * 24 + 1, 6):
        await _fail(empty, steady, began + timedelta(hours=hours))
    for days in range(0, 30, 2):
        await _fail(empty, sporadic, began + timedelta(days=days))

    off, on = await loaded(empty, steady), await loaded(empty, sporadic)
    assert (off.status, off.disabled_reason, off.failing_since) == ("disabled", "failing", began)
    assert (on.status, on.failing_percent) == ("active", 0)


async def _fail(database: Database, endpoint: Endpoint, now: datetime) -> None:
    await some_messages(database, endpoint)
    await everything_is_due(database)
    pieces = [piece for piece in await claimed(database) if piece.endpoint_id == endpoint.id]
    await record(database, [finished(piece, RETRYING) for piece in pieces[:1]], now=now)
    await lapse(database)


async def test_gone_switches_off_with_the_very_attempt(empty: Database) -> None:
    """410 and the end of sending are one transaction."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint)
    (piece,) = await claimed(empty)

    await record(empty, [finished(piece, EXHAUSTED, code=410)])

    now = await loaded(empty, endpoint)
    assert (now.status, now.disabled_reason) == ("disabled", "gone")


async def test_a_paused_endpoint_stays_as_its_owner_left_it(empty: Database) -> None:
    """What was under way when it was paused says nothing to it any more."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint)
    (piece,) = await claimed(empty)
    endpoint.pause()
    await save(empty, endpoint)

    await record(empty, [finished(piece, EXHAUSTED, code=410)])

    assert (await loaded(empty, endpoint)).status == "paused"


async def test_what_tells_of_endpoints_is_given_up_in_silence(empty: Database) -> None:
    """Two endpoints that fail and listen to each other do not tell each other for ever."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint, event_type="vouajudar.webhooks.message.exhausted.v1")
    (piece,) = await claimed(empty)

    await record(empty, [finished(piece, EXHAUSTED)])

    assert await _announced(empty) == []


async def test_a_late_exhaustion_is_not_announced(empty: Database) -> None:
    """The result of a lapsed lease is not what became of the message."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint)
    (late,) = await claimed(empty)
    await lapse(empty)
    await claimed(empty)

    await record(empty, [finished(late, EXHAUSTED)])

    assert await _announced(empty) == []
    assert await statuses(empty, endpoint) == [("delivering", 0)]
