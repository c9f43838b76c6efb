"""The object store: a folder, or any S3 server; behind timeouts, three tries with backoff, and a circuit breaker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

import obstore
import stamina
from obstore.exceptions import BaseError
from obstore.store import from_url
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState

TIMEOUT_S = 20  # of one operation; of a stream, of the wait for its next piece
TRIES = 3
WAIT_S_MAX = 2.0
BREAKER_THRESHOLD = 5  # failures in a row: the store is away, and asking it only keeps workers waiting
BREAKER_OPEN_S = 5.0
PIECE_BYTES = 1 << 20  # of what is read
PART_BYTES = 5 << 20  # of what is written: the least that S3 takes
PARTS_AT_ONCE = 2  # so a stream holds 15 MiB at most, however slow the store is
LISTED_AT_ONCE = 1000

T = TypeVar("T")


class ObjectStoreUnavailable(OSError):
    """The store does not answer, or not well; whoever asks may come back."""


class _Open(ObjectStoreUnavailable):
    """The breaker is open: the store is not even asked."""


class ObjectMissing(LookupError):
    """There is no such object."""


class ObjectStore:
    """Whole objects under keys; what is written is there as a whole or not at all."""

    def __init__(self, url: str, *, options: dict[str, Any] | None = None) -> None:
        """`file:///…`, `s3://bucket/prefix`, or what else obstore knows; `options` are the store's own."""
        self._url = url
        self._options = options or {}
        self._breakers = AsyncCircuitBreakerFactory(exclude=[ObjectMissing])

    @cached_property
    def _store(self) -> Any:
        if self._url.startswith("file:"):
            return from_url(self._url, mkdir=True)
        client = {"timeout": f"{TIMEOUT_S}s", "connect_timeout": "3s", "allow_http": True}
        return from_url(self._url, config=self._options, client_options=client, retry_config={"max_retries": 0})  # type: ignore[call-overload]

    async def put(self, key: str, data: bytes) -> None:
        """Keep an object; an older one of this key is gone."""
        await self._surely(lambda: obstore.put_async(self._store, key, data))

    async def put_stream(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        """Keep what comes; when the pieces end with an error nothing is kept, and the error rises. Tried once."""
        broken: list[BaseException] = []

        async def watched() -> AsyncIterator[bytes]:
            try:
                async for piece in pieces:
                    yield piece
            except BaseException as error:
                broken.append(error)
                raise

        async def put() -> Any:
            try:
                await obstore.put_async(
                    self._store, key, watched(), chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
                )
            except Exception:
                if not broken:
                    raise

        await self._guarded(put, timeout_s=None)  # as long as the sender takes; its own limits end it
        if broken:
            raise broken[0]

    async def get(self, key: str) -> bytes:
        """The whole object; raises `ObjectMissing`."""

        async def read() -> bytes:
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())

        return await self._surely(read)

    async def read(self, key: str) -> AsyncIterator[bytes]:
        """The object, piece by piece; a stream that breaks raises `ObjectStoreUnavailable` and is not taken up again."""
        found = await self._surely(lambda: obstore.get_async(self._store, key))
        pieces = aiter(found.stream(min_chunk_size=PIECE_BYTES))
        while (piece := await self._guarded(lambda: anext(pieces, None), timeout_s=TIMEOUT_S)) is not None:
            yield bytes(piece)

    async def delete(self, key: str) -> None:
        """Let go of an object; none is no error."""
        try:
            await self._surely(lambda: obstore.delete_async(self._store, key))
        except ObjectMissing:
            return

    async def older_than(self, prefix: str, moment: datetime) -> AsyncIterator[str]:
        """Keys below a prefix that were written before a moment."""
        pages = obstore.list(self._store, prefix=prefix, chunk_size=LISTED_AT_ONCE)
        while page := await self._guarded(lambda: _next_page(pages), timeout_s=TIMEOUT_S):
            for each in page:
                if each["last_modified"] < moment:
                    yield each["path"]

    async def _surely(self, act: Callable[[], Awaitable[T]]) -> T:
        async for attempt in stamina.retry_context(
            on=_may_pass,
            attempts=TRIES,
            timeout=None,
            wait_initial=0.1,
            wait_max=WAIT_S_MAX,
            wait_jitter=0.5,
        ):
            with attempt:
                return await self._guarded(act, timeout_s=TIMEOUT_S)
        raise AssertionError("unreachable")

    async def _guarded(self, act: Callable[[], Awaitable[T]], *, timeout_s: float | None) -> T:
        breaker = await self._breakers.get_breaker("objects", threshold=BREAKER_THRESHOLD, ttl=BREAKER_OPEN_S)
        try:
            async with breaker:
                try:
                    async with asyncio.timeout(timeout_s):
                        return await act()
                except FileNotFoundError as error:
                    raise ObjectMissing(str(error)) from error
        except OpenedState as error:
            raise _Open("the object store was away a moment ago") from error
        except (BaseError, OSError, TimeoutError) as error:
            raise ObjectStoreUnavailable(repr(error)) from error


def _may_pass(error: Exception) -> bool:
    return isinstance(error, ObjectStoreUnavailable) and not isinstance(error, _Open)


async def _next_page(pages: Any) -> list[Any]:
    return list(await anext(pages, []))
