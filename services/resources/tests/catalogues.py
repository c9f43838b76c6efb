"""Bodies of catalogues: written, cut into pieces, and read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

from hypothesis import strategies as st
from resources.catalogue import Limits, RawRow, rows_of

NDJSON, ARRAY, CSV = "application/x-ndjson", "application/json", "text/csv"


async def in_pieces(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    """What a server gives of a body."""
    for piece in pieces:
        yield piece


def read(
    body: bytes | Iterable[bytes], media_type: str, *, content_encoding: str | None = None, **limits: Any
) -> list[RawRow]:
    """All rows of a body."""

    async def all_rows() -> list[RawRow]:
        pieces = in_pieces([body] if isinstance(body, bytes) else body)
        batches = rows_of(pieces, media_type=media_type, content_encoding=content_encoding, limits=Limits(**limits))
        return [row async for batch in batches for row in batch]

    return asyncio.run(all_rows())


def cut(body: bytes, at: Iterable[int]) -> list[bytes]:
    """A body in pieces, some of them empty."""
    places = sorted(place % (len(body) + 1) for place in at)
    return [body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)]


def values(rows: Iterable[RawRow]) -> list[Any]:
    """What the rows say, each being one line, by a decoder that is not ours."""
    rows = list(rows)
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert not any(b"\n" in row.data for row in rows)
    return [json.loads(row.data) for row in rows]


def a_row(number: int = 0, **changes: Any) -> dict[str, Any]:
    """Rice in the shop's own code; what is changed to None is not there."""
    row = {"sku": f"A-{number}", "name": f"Arroz {number}", "price_cents": 1990, "stock": 12} | changes
    return {field: value for field, value in row.items() if value is not None}


def ndjson(rows: Iterable[Any]) -> bytes:
    """Rows as lines."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


PLACES = st.lists(st.integers(0, 1 << 20), max_size=8)
BLOCKS = st.integers(4, 200)
TRICKY = st.text(st.one_of(st.sampled_from('{}[],":\\ \n\r\t'), st.characters(exclude_categories=["Cs"])), max_size=12)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TRICKY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TRICKY, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(TRICKY, JSON_VALUES, max_size=4), max_size=8)
