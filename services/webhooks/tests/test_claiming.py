"""Leases and turns on a real database: nothing is given to two, nobody waits behind a backlog, no late result misleads."""

from __future__ import annotations

import asyncio

from chassis.database import Database
from chassis.kernel import new_id
from webhooks.domain import MessageStatus
from webhooks.repository import ENDPOINTS

from services.webhooks.tests.engine import (
    NOW,
    an_endpoint,
    claimed,
    finished,
    lapse,
    record,
    save,
    some_messages,
    statuses,
    sweep,
)


async def test_a_message_is_claimed_by_one_of_many(empty: Database) -> None:
    """Twenty dispatchers that claim at once share the messages without an overlap."""
    ids = [mid for _ in range(10) for mid in await some_messages(empty, await an_endpoint(empty), 5)]

    taken = [piece for pieces in await asyncio.gather(*(claimed(empty, 4) for _ in range(20))) for piece in pieces]
    taken += await claimed(empty, 100)

    assert sorted(piece.message_id for piece in taken) == sorted(ids)


async def test_endpoints_take_turns(empty: Database) -> None:
    """A long backlog of one endpoint leaves room for the single message of another; slots bound each."""
    busy, quiet = await an_endpoint(empty), await an_endpoint(empty)
    await some_messages(empty, busy, 30)
    (late,) = await some_messages(empty, quiet, 1)

    first = await claimed(empty, 4)
    second = await claimed(empty, 100)

    assert late in {piece.message_id for piece in first}
    assert [piece.body for piece in first if piece.endpoint_id == busy.id] == [b"0", b"1", b"2"]
    assert len(first) + len(second) == 11
    assert await claimed(empty, 100) == []


async def test_a_lapsed_lease_gives_the_message_to_the_next(empty: Database) -> None:
    """What a crashed process left is due again when the lease ends, not before, and has lost no attempt."""
    await some_messages(empty, await an_endpoint(empty), 1)
    (lost,) = await claimed(empty, 1)

    before = await claimed(empty, 1)
    await lapse(empty)
    (again,) = await claimed(empty, 1)

    assert before == []
    assert (again.message_id, again.event_id, again.attempts) == (lost.message_id, lost.event_id, 0)
    assert again.lease_id != lost.lease_id


async def test_a_late_failure_is_logged_only(empty: Database) -> None:
    """The result of a lapsed lease changes nothing that belongs to the next one; a late acceptance counts."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint, 2)
    late = await claimed(empty, 2)
    await lapse(empty)
    await claimed(empty, 2)

    await record(empty, [finished(late[0], MessageStatus.EXHAUSTED), finished(late[1], MessageStatus.DELIVERED)])

    assert sorted(await statuses(empty, endpoint)) == [("delivered", 1), ("delivering", 0)]
    assert await empty.reading().fetchval("SELECT count(*) FROM webhook_attempts") == 2


async def test_a_retry_waits_for_its_time(empty: Database) -> None:
    """A retrying message is not claimed before it is due."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint, 2)
    soon, later = await claimed(empty, 2)

    await record(
        empty, [finished(soon, MessageStatus.RETRYING), finished(later, MessageStatus.RETRYING, wait_s=60)]
    )  # fmt: skip

    assert [piece.message_id for piece in await claimed(empty, 10)] == [soon.message_id]


async def test_what_is_due_at_a_paused_endpoint_is_held_and_let_go_later(empty: Database) -> None:
    """However pausing and storing interleave, a due message of a paused endpoint ends up held, and free when enabled."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint, 3)
    endpoint.pause()
    await save(empty, endpoint)

    assert await claimed(empty, 10) == []
    assert await statuses(empty, endpoint) == [("held", 0)] * 3
    await sweep(empty)
    assert await statuses(empty, endpoint) == [("held", 0)] * 3

    endpoint.enable()
    await save(empty, endpoint)
    await sweep(empty)

    assert len(await claimed(empty, 10)) == 3


async def test_what_waits_for_a_deleted_endpoint_is_cancelled(empty: Database) -> None:
    """Pending and held alike."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint, 1)
    endpoint.pause()
    await save(empty, endpoint)
    await claimed(empty, 10)
    await some_messages(empty, endpoint, 1)
    endpoint.delete()
    await save(empty, endpoint)

    await sweep(empty)
    assert await claimed(empty, 10) == []

    assert await statuses(empty, endpoint) == [("cancelled", 0)] * 2


async def test_the_stream_of_an_endpoint_folds_to_its_row(empty: Database) -> None:
    """The stored events give the very endpoint that the row holds."""
    endpoint = await an_endpoint(empty)
    endpoint.mark_failing(NOW, percent=50)
    endpoint.rotate_secret("t", now=NOW)
    endpoint.disable("gone")
    await save(empty, endpoint)

    row = await ENDPOINTS.get(empty.reading(), endpoint.id)

    assert row == await ENDPOINTS.as_of(empty.reading(), endpoint.id)
    assert row == endpoint


async def test_slots_of_an_endpoint_hold_over_all_processes(empty: Database) -> None:
    """Twelve that claim again and again, at the same moments, never have more than ten messages of one endpoint together."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint, 400)
    most = 0

    async def send() -> None:
        nonlocal most
        for _ in range(12):
            pieces = await claimed(empty, 3)
            most = max(most, await under_way(empty))
            await record(empty, [finished(piece, MessageStatus.DELIVERED) for piece in pieces])

    await asyncio.gather(*(send() for _ in range(12)))

    assert 3 <= most <= 10


async def under_way(database: Database) -> int:
    count: int = await database.pool.fetchval("SELECT count(*) FROM webhook_messages WHERE status = 'delivering'")
    return count


async def test_organizations_take_turns_however_many_endpoints_they_have(empty: Database) -> None:
    """One with twenty endpoints does not get twenty messages before the second of one with a single endpoint."""
    many, single = new_id(), await an_endpoint(empty)
    for _ in range(20):
        await some_messages(empty, await an_endpoint(empty, organization_id=many), 2)
    await some_messages(empty, single, 5)

    taken = await claimed(empty, 10)

    assert sum(piece.endpoint_id == single.id for piece in taken) == 5


async def test_an_organization_that_has_its_share_waits(empty: Database) -> None:
    """Whoever fills its slots in a process leaves the rest of them to others."""
    full, other = await an_endpoint(empty), await an_endpoint(empty)
    await some_messages(empty, full, 3)
    await some_messages(empty, other, 1)

    assert {piece.endpoint_id for piece in await claimed(empty, without=[full.organization_id])} == {other.id}


async def test_a_backlog_of_retries_does_not_count_as_under_way(empty: Database) -> None:
    """Messages that wait for a later attempt take no slot."""
    endpoint = await an_endpoint(empty)
    await some_messages(empty, endpoint, 10)
    await record(empty, [finished(piece, MessageStatus.RETRYING, wait_s=60) for piece in (await claimed(empty))[:9]])
    await some_messages(empty, endpoint, 12)

    assert len(await claimed(empty)) == 9
