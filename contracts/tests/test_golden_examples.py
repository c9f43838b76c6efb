"""The golden examples: every consumer must accept them, so they must be right in every detail."""

from __future__ import annotations

import json
from datetime import datetime
from importlib.resources import files
from typing import Any
from uuid import UUID

import pytest
from contracts.envelope import rfc3339, schema_of, source_of
from contracts.registry import decode, event_types
from contracts.values import cnpj_is_valid, gtin_is_valid
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

from contracts import catalogue

TYPES = list(event_types())
SUBJECT_FIELDS = {
    "resource_request": "request_id", "signing_key": "key_id", "task_templates": "organization_id",
}  # others: <aggregate>_id  # fmt: skip
FORMATS = FormatChecker(formats=["uuid"])


@FORMATS.checks("date-time", raises=ValueError)
def is_moment(value: object) -> bool:
    """RFC 3339 in the one spelling that producers use."""
    return not isinstance(value, str) or rfc3339(datetime.fromisoformat(value)) == value


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Validates with formats."""
    return Draft202012Validator(schema, format_checker=FORMATS)


def raw(name: str) -> bytes:
    """The file as it is."""
    return (files("contracts") / "examples" / f"{name}.json").read_bytes()


def every(value: Any, field: str) -> list[Any]:
    """All values of a field, at any depth."""
    if isinstance(value, list):
        return [found for one in value for found in every(one, field)]
    if isinstance(value, dict):
        return ([value[field]] if field in value else []) + every(list(value.values()), field)
    return []


def test_one_for_each_type() -> None:
    """Every type has an example, and there is no other file."""
    names = [path.name for path in (files("contracts") / "examples").iterdir()]

    assert sorted(names) == sorted(f"{name}.json" for name in TYPES)


@pytest.mark.parametrize("name", TYPES)
def test_nothing_is_lost(name: str) -> None:
    """Decoded and encoded again, an example is the very same: nothing dropped, nothing turned into something else."""
    example = catalogue.example(name)

    received = decode(raw(name))

    assert type(received.event) is event_types()[name]
    assert received.event.model_dump(mode="json", exclude_unset=True) == example["data"]
    assert received.envelope.model_dump(mode="json", exclude_unset=True) == example
    assert decode(received.envelope.model_dump_json().encode()).event == received.event


@pytest.mark.parametrize("name", TYPES)
def test_schemas_agree(name: str) -> None:
    """An example is valid by the published schemas of the envelope and of its type."""
    example = catalogue.example(name)

    assert [*validator(catalogue.envelope_schema()).iter_errors(example)] == []
    assert [*validator(catalogue.schema(name)).iter_errors(example["data"])] == []


@pytest.mark.parametrize("name", TYPES)
def test_schemas_refuse(name: str) -> None:
    """The schemas bite: without a required field, or with an id or a moment in another form, an example is invalid."""
    example, schema = catalogue.example(name), validator(catalogue.schema(name))

    for field in catalogue.schema(name)["required"]:
        assert not schema.is_valid({key: value for key, value in example["data"].items() if key != field})
    for wrong in ({"id": "1"}, {"time": "10/03/2026"}, {"specversion": "0.3"}, {"aggregateversion": "1"}):
        with pytest.raises(ValidationError):
            validator(catalogue.envelope_schema()).validate(example | wrong)


@pytest.mark.parametrize("name", TYPES)
def test_envelope(name: str) -> None:
    """Type, source, schema and subject belong together; the id is a UUIDv7 of the moment; the owner is a party."""
    envelope = decode(raw(name)).envelope
    event = event_types()[name]

    assert (envelope.type, envelope.source, envelope.dataschema) == (name, source_of(event.producer), schema_of(name))
    assert str(envelope.subject) == envelope.data[SUBJECT_FIELDS.get(event.aggregate, f"{event.aggregate}_id")]
    assert envelope.id.version == 7
    assert envelope.id.int >> 80 == int(envelope.time.timestamp() * 1000)
    assert envelope.organizationid is None or envelope.organizationid in envelope.party_ids
    assert len(set(envelope.party_ids)) == len(envelope.party_ids)
    concerned = {UUID(one) for key in ("organization_id", "donor_organization_id") for one in every(envelope.data, key)}
    assert concerned <= set(envelope.party_ids)


def test_ids_are_unique() -> None:
    """No two examples share an event id."""
    ids = [catalogue.example(name)["id"] for name in TYPES]

    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", TYPES)
def test_numbers_are_right(name: str) -> None:
    """Ledgers are conserved, windows open before they close, company and product numbers have right check digits."""
    data = catalogue.example(name)["data"]

    for ledger in every(data, "quantities"):
        assert ledger["total"] == sum(count for bucket, count in ledger.items() if bucket != "total")
    for window in every(data, "pickup_window"):
        assert window["from_at"] < window["to_at"]
    assert all(cnpj_is_valid(cnpj) for cnpj in every(data, "cnpj"))
    assert all(gtin_is_valid(gtin) for gtin in every(data, "gtin"))


@pytest.mark.parametrize("name", [name for name in TYPES if ".delivery." in name])
def test_custody_is_closed(name: str) -> None:
    """Nothing appears on the road, and in an end state all that was picked up has its place."""
    data = catalogue.example(name)["data"]
    for line in data["lines"]:
        placed = line["delivered"] + line["returned"] + line["discarded"] + line["lost"]
        assert placed <= line["picked"] <= line["planned"]
        assert data["status"] not in {"delivered", "returned", "discarded"} or placed == line["picked"] > 0


@pytest.mark.parametrize("name", [name for name in TYPES if ".resource_request." in name])
def test_needs_are_kept(name: str) -> None:
    """Reservations and what was received never exceed the need; a fulfilled request has everything."""
    data = catalogue.example(name)["data"]
    for line in data["lines"]:
        assert line["reserved"] + line["received"] <= line["needed"]
        assert data["status"] != "fulfilled" or line["received"] == line["needed"]


@pytest.mark.parametrize("name", TYPES)
def test_catalogue_gives_copies(name: str) -> None:
    """Who changes what the catalogue gave changes only their own copy."""
    catalogue.example(name).clear()
    catalogue.schema(name).clear()

    assert catalogue.example(name)["type"] == name
    assert catalogue.schema(name)["$id"] == schema_of(name)


@pytest.mark.parametrize(
    "name", ["", "envelope", "vouajudar.batches.batch.ready.v2", "../schemas/envelope", "/etc/hostname", "a\x00b"]
)
def test_catalogue_knows_its_types_only(name: str) -> None:
    """A name that is no published type is refused before it becomes a path."""
    for accessor in (catalogue.schema, catalogue.example):
        with pytest.raises(catalogue.UnknownEventType):
            accessor(name)


def test_files_are_written_alike() -> None:
    """UTF-8, two spaces, a line feed at the end: a changed example shows as a small difference."""
    for name in TYPES:
        assert raw(name).decode() == json.dumps(catalogue.example(name), indent=2, ensure_ascii=False) + "\n"
