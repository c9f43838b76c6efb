"""The object store: whole or not at all, and quick to say no while it is away."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from resources.objects import BREAKER_THRESHOLD, ObjectMissing, ObjectStore, ObjectStoreUnavailable

MIB = 1 << 20


async def pieces(count: int, *, fails: Exception | None = None) -> AsyncIterator[bytes]:
    """A stream of a MiB each, which may break at its end."""
    for number in range(count):
        yield bytes([number]) * MIB
    if fails is not None:
        raise fails


def files(folder: Path) -> list[str]:
    """Every file that is there."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """A store in a folder that is not there yet."""
    return ObjectStore((tmp_path / "objects").as_uri())


async def test_what_is_put_is_read(store: ObjectStore) -> None:
    """A stream comes back as it was, as a whole and in pieces."""
    await store.put_stream("payloads/a", pieces(7))

    whole = await store.get("payloads/a")

    assert whole == b"".join([piece async for piece in pieces(7)])
    assert b"".join([piece async for piece in store.read("payloads/a")]) == whole


async def test_a_stream_that_breaks_leaves_nothing(store: ObjectStore, tmp_path: Path) -> None:
    """When the sender goes away nothing is kept, not even in parts, and its error is what rises."""
    with pytest.raises(ConnectionAbortedError, match="gone"):
        await store.put_stream("payloads/a", pieces(12, fails=ConnectionAbortedError("gone")))

    assert files(tmp_path) == []


async def test_what_is_missing_is_told_apart(store: ObjectStore) -> None:
    """A missing object is no failure of the store; letting go of it is no error."""
    for _ in range(BREAKER_THRESHOLD + 1):
        with pytest.raises(ObjectMissing):
            await store.get("chunks/none")
    await store.delete("chunks/none")

    await store.put("chunks/one", b"1")
    assert await store.get("chunks/one") == b"1"


async def test_the_breaker_opens_and_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some failures in a row nobody waits for the store; once it is back, it is asked again."""
    monkeypatch.setattr("resources.objects.BREAKER_OPEN_S", 0.2)
    folder = tmp_path / "objects"
    store = ObjectStore(folder.as_uri())
    await store.put("chunks/one", b"1")
    folder.rename(tmp_path / "away")
    folder.write_text("no folder")
    with pytest.raises((ObjectStoreUnavailable, ObjectMissing)):
        await store.put("chunks/two", b"2")
    with pytest.raises(ObjectStoreUnavailable):
        await store.put("chunks/two", b"2")

    began = time.monotonic()
    with pytest.raises(ObjectStoreUnavailable, match="a moment ago"):
        await store.get("chunks/one")
    assert time.monotonic() - began < 0.1
    folder.unlink()
    (tmp_path / "away").rename(folder)

    deadline = time.monotonic() + 5
    while True:
        try:
            assert await store.get("chunks/one") == b"1"
            return
        except ObjectStoreUnavailable:
            assert time.monotonic() < deadline


async def test_old_objects_are_listed(store: ObjectStore) -> None:
    """Only what is below the prefix and old enough."""
    await store.put("payloads/a/1", b"1")
    await store.put("chunks/a/1", b"1")
    now = datetime.now(UTC)

    assert [key async for key in store.older_than("payloads", now + timedelta(hours=1))] == ["payloads/a/1"]
    assert [key async for key in store.older_than("payloads", now - timedelta(hours=1))] == []
