"""Bytes to typed events: what is ours is typed, everything else is `Undecodable` and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from contracts.registry import Received, Undecodable, decode, event_types
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import catalogue

READY = "vouajudar.batches.batch.ready.v1"
UNTIMED = settings(deadline=None)  # a busy machine is no finding
TYPES = sorted(event_types())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def body(**changes: Any) -> bytes:
    """A valid message with some members of its envelope replaced."""
    return json.dumps(catalogue.example(READY) | changes).encode()


def with_data(**changes: Any) -> bytes:
    """A valid message with some members of its data replaced."""
    return body(data=catalogue.example(READY)["data"] | changes)


def decoded(message: bytes) -> Received | None:
    """The event, or nothing when it is undecodable; any other exception fails the test."""
    try:
        return decode(message)
    except Undecodable:
        return None


def test_ours() -> None:
    """A message of ours is typed."""
    assert type(decode(body()).event) is event_types()[READY]


def test_later_fields() -> None:
    """Fields that a later version adds, in the envelope or in the data, are ignored."""
    assert decode(body(laterattribute="x")).event == decode(with_data(later_field=1)).event == decode(body()).event


@pytest.mark.parametrize(
    "unknown",
    ["vouajudar.batches.batch.ready.v2", "vouajudar.batches.batch.READY.v1", "com.example.someevent", "envelope"],
)
def test_unknown_type(unknown: str) -> None:
    """A type that is not in the registry is undecodable and named."""
    with pytest.raises(Undecodable, match=unknown):
        decode(body(type=unknown))


@pytest.mark.parametrize(
    "message",
    [
        b"", b"\x00", b"{", b"null", b"[]", b"1", b'"text"', b"{}", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"[" * 100_000,
        b'{"a":' * 100_000, b"{'id': 1}",
        b'{"id": "\\ud800"}', b'{"aggregateversion": ' + b"9" * 5_000 + b"}", body() + b"}", body()[:-1],
        body().decode().encode("utf-16"),
    ],
    ids=lambda message: repr(message[:12]),
)  # fmt: skip
def test_no_envelope(message: bytes) -> None:
    """Bytes that are no JSON, no object or no envelope are undecodable, however deep or odd."""
    with pytest.raises(Undecodable):
        decode(message)


@pytest.mark.parametrize(
    "changes",
    [
        {"specversion": "0.3"}, {"id": "1"}, {"id": None}, {"source": ""}, {"type": None}, {"type": ""},
        {"subject": "batch"}, {"time": "yesterday"}, {"time": "2026-03-10T11:00:00"},
        {"datacontenttype": "text/plain"}, {"aggregateversion": 0}, {"aggregateversion": 1.5}, {"organizationid": "x"},
        {"parties": "everybody"}, {"data": None}, {"data": []},
        {"data": "{}"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_envelope(changes: dict[str, Any]) -> None:
    """An envelope with a wrong member is undecodable."""
    with pytest.raises(Undecodable):
        decode(body(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_id": "1"}, {"batch_id": None}, {"status": "open"}, {"unit": "kg"},
        {"product_name": "x" * 201}, {"use_by_at": "soon"},
        {"quantities": None}, {"quantities": {"total": 1}}, {"quantities": {"total": -1, "available": 0, "held": 0,
        "in_transit": 0, "delivered": 0, "lost": 0}},
        {"quantities": {"total": float("inf"), "available": 0, "held": 0, "in_transit": 0, "delivered": 0, "lost": 0}},
        {"pickup_window": {"from_at": "2026-03-10T11:00:00Z"}},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_data(changes: dict[str, Any]) -> None:
    """Data that does not fit its type is undecodable."""
    with pytest.raises(Undecodable):
        decode(with_data(**changes))


@pytest.mark.parametrize("name", TYPES)
def test_required_fields(name: str) -> None:
    """A field that the schema requires cannot be missing."""
    example = catalogue.example(name)
    for field in catalogue.schema(name)["required"]:
        rest = {key: value for key, value in example["data"].items() if key != field}
        with pytest.raises(Undecodable, match=field):
            decode(json.dumps(example | {"data": rest}).encode())


@UNTIMED
@given(st.binary(max_size=200))
def test_any_bytes(message: bytes) -> None:
    """Arbitrary bytes are never an event and never another exception."""
    assert decoded(message) is None


@UNTIMED
@given(st.sampled_from(TYPES), st.data())
def test_any_value_anywhere(name: str, data: st.DataObject) -> None:
    """One value replaced by any JSON at all: an event of that type, or undecodable."""
    message = catalogue.example(name)
    target = message["data"] if data.draw(st.booleans()) else message
    target[data.draw(st.sampled_from(sorted(target)))] = data.draw(JSON)

    found = decoded(json.dumps(message).encode())

    if found is not None:
        assert type(found.event) is event_types()[found.envelope.type]
        assert all(found.envelope.party_ids)


@UNTIMED
@given(st.sampled_from(TYPES), st.integers(0, 10_000), st.integers(0, 255))
def test_any_byte_anywhere(name: str, at: int, byte: int) -> None:
    """One byte of a message replaced: an event, or undecodable."""
    message = bytearray(json.dumps(catalogue.example(name)).encode())
    message[at % len(message)] = byte

    decoded(bytes(message))
