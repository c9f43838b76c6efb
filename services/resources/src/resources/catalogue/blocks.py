"""The bytes of a body: uncompressed, counted, in even blocks, whatever pieces they came in."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator

from resources.catalogue.rows import Broken, Fault, Limits

GZIP_WINDOW = 16 + zlib.MAX_WBITS  # zlib's word for: a gzip header, the largest window
MEMBERS_MAX = 100_000  # concatenated gzip files are one; empty ones cost time and no bytes


async def blocks_of(body: AsyncIterator[bytes], *, gzipped: bool, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Blocks of `limits.block_bytes`, the last one shorter; what came before a fault is given before it is raised."""
    gunzip = _Gunzip(limits)
    unpack: Callable[[bytes], Iterable[bytes]] = gunzip.feed if gzipped else _as_it_is
    kept = bytearray()
    total = 0
    size = limits.block_bytes
    try:
        async for piece in body:
            for part in unpack(piece):
                total += len(part)
                if total > limits.body_bytes_max:
                    detail = f"a catalogue has at most {limits.body_bytes_max} bytes"
                    raise Broken(Fault.BODY_TOO_LARGE, limits.body_bytes_max, detail)
                kept += part
                while len(kept) >= size:
                    yield bytes(kept[:size])
                    del kept[:size]
        gunzip.close()
    except Broken:
        if kept:
            yield bytes(kept)
        raise
    if kept:
        yield bytes(kept)


def _as_it_is(piece: bytes) -> Iterable[bytes]:
    return (piece,)


class _Gunzip:
    """Unpacks as much as a block at a time; never more than the limits, whatever a header promises."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._member: zlib._Decompress | None = None
        self._members = 0
        self._packed = 0
        self._unpacked = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What a piece unpacks to; a large piece bit by bit, because zlib copies what it leaves."""
        size = self._limits.block_bytes
        for start in range(0, len(piece), size):
            yield from self._unpacked_parts(piece[start : start + size])

    def close(self) -> None:
        """A gzip file ends with its checksum."""
        if self._member is not None:
            raise Broken(Fault.GZIP_TRUNCATED, self._unpacked, "the gzip stream ends before its end mark")

    def _unpacked_parts(self, packed: bytes) -> Iterator[bytes]:
        self._packed += len(packed)
        while packed:
            member = self._member or self._next_member()
            part = self._part(member, packed)
            yield part
            packed = member.unused_data if member.eof else member.unconsumed_tail
            while not packed and len(part) == self._limits.block_bytes and not member.eof:
                part = self._part(member, b"")  # all is read, not all is given
                yield part
            if member.eof:
                self._member = None

    def _next_member(self) -> zlib._Decompress:
        self._members += 1
        if self._members > MEMBERS_MAX:
            raise Broken(Fault.GZIP_MALFORMED, self._unpacked, f"more than {MEMBERS_MAX} gzip members")
        self._member = zlib.decompressobj(wbits=GZIP_WINDOW)
        return self._member

    def _part(self, member: zlib._Decompress, packed: bytes) -> bytes:
        try:
            part = member.decompress(packed, self._limits.block_bytes)
        except zlib.error as error:
            trailing = self._members > 1 and "header check" in str(error)
            reason = Fault.TRAILING_DATA if trailing else Fault.GZIP_MALFORMED
            raise Broken(reason, self._unpacked, "no gzip stream, or a damaged one") from error
        self._unpacked += len(part)
        limits = self._limits
        if self._unpacked > max(limits.ratio_from_bytes, limits.ratio_max * self._packed):
            raise Broken(Fault.COMPRESSION_RATIO, self._unpacked, f"unpacks to more than {limits.ratio_max} times")
        return part
