"""Cursors are opaque, and only the list that made one accepts it."""

from __future__ import annotations

import pytest
from chassis.pagination import BadCursor, Cursors
from hypothesis import given
from hypothesis import strategies as st

CURSORS = Cursors(b"secret")
POSITIONS = st.lists(st.one_of(st.text(max_size=20), st.integers(-(2**60), 2**60), st.none()), max_size=4)


@given(position=POSITIONS)
def test_a_cursor_comes_back_as_it_went(position: list[object]) -> None:
    """What is encoded for a list is decoded by it."""
    assert CURSORS.decode("/v1/batches", CURSORS.encode("/v1/batches", position)) == position


@given(position=POSITIONS, junk=st.text(max_size=50), at=st.integers(0, 200))
def test_nothing_else_is_accepted(position: list[object], junk: str, at: int) -> None:
    """Another list's cursor, a changed one and junk are all refused."""
    cursor = CURSORS.encode("/v1/batches", position)
    at %= len(cursor)
    changed = cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :]
    for purpose, text in (("/v1/products", cursor), ("/v1/batches", junk), ("/v1/batches", cursor[:-2])):
        with pytest.raises(BadCursor):
            CURSORS.decode(purpose, text)
    if len(cursor) % 4 == 0 or at < len(cursor) - 1:  # the last character may carry bits that mean nothing
        with pytest.raises(BadCursor):
            CURSORS.decode("/v1/batches", changed)
