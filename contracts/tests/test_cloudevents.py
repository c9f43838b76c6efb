"""CloudEvents 1.0: the rules of the specification, tried on its own conformance events and held by every example."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from contracts.envelope import CONTENT_TYPE
from contracts.registry import Undecodable, decode, event_types

from contracts import catalogue

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "cloudevents_conformance.ndjson")
    .read_text(encoding="utf-8")
    .splitlines()
]
STRUCTURED = [vector for vector in VECTORS if vector["kind"] == "http_structured"]
READY = "vouajudar.batches.batch.ready.v1"

REQUIRED = ("id", "source", "specversion", "type")
NOT_EMPTY = (*REQUIRED, "subject")
NAME = re.compile(r"[a-z0-9]{1,20}")
MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(;\s*[\w-]+=\S+)*", re.ASCII)
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
FORMS = {"datacontenttype": MEDIA_TYPE, "time": MOMENT, "specversion": re.compile(r"1\.0")}


def attributes(vector: dict[str, Any]) -> dict[str, Any]:
    """The context attributes of a conformance vector, extensions included."""
    if vector["kind"] == "http_structured":
        return {key: value for key, value in json.loads(vector["body"]).items() if key != "data"}
    if vector["kind"] == "http_binary":
        return {str(key)[3:]: value for key, value in vector["headers"].items() if key.startswith("ce-")}
    return {**vector["attributes"], **vector["extensions"]}


def faults(context: dict[str, Any]) -> list[str]:
    """Names of attributes that break the specification (sections "Context Attributes" and "Type System")."""
    present = {name: value for name, value in context.items() if value is not None}
    missing = [name for name in REQUIRED if not present.get(name)]
    return missing + [name for name, value in present.items() if not (NAME.fullmatch(name) and is_allowed(name, value))]


def is_allowed(name: str, value: object) -> bool:
    """Boolean, 32-bit integer, or text without control characters; the standard attributes in their own forms."""
    if isinstance(value, bool):
        return name not in FORMS
    if isinstance(value, int):
        return name not in FORMS and -(2**31) <= value < 2**31
    if not isinstance(value, str) or CONTROL.search(value):
        return False
    if name in NOT_EMPTY and not value:
        return False
    if name == "dataschema":
        return bool(urlsplit(value).scheme)
    return FORMS[name].fullmatch(value) is not None if name in FORMS else True


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['kind']}-{v.get('mode') or v['source_file']}")
def test_the_rules_know_conformance_events(vector: dict[str, Any]) -> None:
    """Every conformance event of 1.0 keeps the rules; those of 0.3 break exactly one, the version."""
    found = attributes(vector)

    assert faults(found) == ([] if found["specversion"] == "1.0" else ["specversion"])


def test_both_versions_are_among_them() -> None:
    """The vectors hold events of 1.0 and of 0.3, structured and not."""
    assert {attributes(vector)["specversion"] for vector in VECTORS} == {"1.0", "0.3"}
    assert {vector["kind"] for vector in VECTORS} == {"event", "http_binary", "http_structured"}


@pytest.mark.parametrize(
    "broken",
    [
        {"id": ""}, {"source": None}, {"type": ""}, {"specversion": "1.1"}, {"time": "10/03/2026"},
        {"dataschema": "ready.json"}, {"datacontenttype": "json"},
        {"aggregateversion": 2**31}, {"aggregate_version": 1}, {"organizationId": "x"}, {"parties": ["a"]},
        {"actorid": "a\nb"}, {"subject": ""}, {"a" * 21: "x"},
    ],
    ids=str,
)  # fmt: skip
def test_the_rules_bite(broken: dict[str, Any]) -> None:
    """Each planted fault is found, under the attribute's name."""
    example = {name: value for name, value in catalogue.example(READY).items() if name != "data"}

    assert faults(example) == []
    assert set(faults(example | broken)) == set(broken)


@pytest.mark.parametrize("name", event_types())
def test_ours_conform(name: str) -> None:
    """Every example keeps the rules and is an object with a `data` member, as structured JSON wants it."""
    example = catalogue.example(name)

    assert isinstance(example.pop("data"), dict)
    assert faults(example) == []


@pytest.mark.parametrize("vector", STRUCTURED)
def test_media_type(vector: dict[str, Any]) -> None:
    """Structured events travel under the media type that we use."""
    assert vector["headers"]["Content-Type"].partition(";")[0] == CONTENT_TYPE


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['kind']}-{v.get('mode') or v['source_file']}")
def test_foreign_events_are_undecodable(vector: dict[str, Any]) -> None:
    """A well-formed event that is none of ours is a dead letter, not a crash."""
    with pytest.raises(Undecodable):
        decode(json.dumps(attributes(vector) | {"data": vector.get("data") or {}}).encode())


@pytest.mark.parametrize("vector", STRUCTURED)
def test_their_spelling_is_understood(vector: dict[str, Any]) -> None:
    """The time and source of a conformance event, and extensions that we do not know, fit into our envelope."""
    borrowed = {
        name: value for name, value in attributes(vector).items() if name in ("time", "source", "datacontenttype")
    }

    envelope = decode(
        json.dumps(catalogue.example(READY) | borrowed | {"comexampleextension1": "value"}).encode()
    ).envelope

    assert envelope.time == datetime(2018, 4, 5, 3, 56, 24, tzinfo=UTC)
    assert envelope.source == "/mycontext/subcontext"
    assert envelope.model_dump(mode="json")["time"] == "2018-04-05T03:56:24.000000Z"
