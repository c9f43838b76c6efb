"""No names, telephones, e-mail addresses, addresses or codes in events, and the rule that finds them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from contracts.envelope import Event
from contracts.generate import schema_for
from contracts.privacy import ALLOWED, suspect_fields, violations
from contracts.registry import event_types
from contracts.values import IbgeCity, Value
from pydantic import BaseModel, Field

from contracts import catalogue

TYPES = list(event_types())
PATTERNS = {
    "e-mail address": re.compile(r"[^@\s]+@[^@\s]+\.[a-z]{2,}", re.IGNORECASE),
    "telephone": re.compile(r"(\+55|\(\d{2}\))\s?\d{2}|(?<![-\w])9?\d{4}-\d{4}(?![-\w])"),
    "CPF": re.compile(r"\b\d{3}\.\d{3}\.\d{3}-\d{2}\b"),
    "CEP": re.compile(r"\b\d{5}-\d{3}\b"),
    "six-digit code": re.compile(r"^\d{6}$"),
}


class Contact(Value):
    """A wire value that no event may hold."""

    phone: int


class DeliveryWatched(Event):
    """A planted event: every member but the product's name and the city breaks the rule."""

    producer = "deliveries"
    aggregate = "delivery"
    delivery_id: str = "2f1f0c1e"
    product_name: str
    volunteer_name: str
    email: str
    custody_code: int
    dropoff_address: dict[str, str]
    cpf: str | None = None
    contacts: list[Contact]
    backup: Contact | None = None
    remarks: str
    reachable_at: Annotated[str, Field(json_schema_extra={"format": "email"})]
    anyhow: Annotated[str, Field(pattern=r"^.+$")]
    city: IbgeCity
    extra: dict[str, Any]
    tags: list[str]
    anything: Any


def leaves(value: Any) -> Iterator[str]:
    """Every text inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)


def schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema as it would be published."""
    return schema_for(model, "https://example.org/planted.json")


@pytest.mark.parametrize("name", TYPES)
def test_no_personal_data(name: str) -> None:
    """No field of any event may carry personal data."""
    assert violations(catalogue.schema(name)) == []


def test_planted_fields_are_found() -> None:
    """The rule bites: by name at any depth, and by free text under an innocent name."""
    found = {fault.partition(":")[0] for fault in violations(schema(DeliveryWatched))}

    assert found == {
        "delivery_id", "volunteer_name", "email", "custody_code", "dropoff_address", "cpf", "contacts.phone",
        "backup.phone", "remarks", "reachable_at", "anyhow", "extra", "tags", "anything",
    }  # fmt: skip


def test_an_allowance_is_for_its_field_alone() -> None:
    """Goods may have a name because the list says so; without the list they may not."""
    assert any(fault.startswith("product_name") for fault in violations(schema(DeliveryWatched), allowed={}))


def test_allowances_are_used() -> None:
    """An allowance that no event needs any more is taken off the list, and each has a reason."""
    needed = set().union(*(suspect_fields(catalogue.schema(name)) for name in TYPES))

    assert needed == set(ALLOWED)
    assert all(len(reason) > 20 for reason in ALLOWED.values())


@pytest.mark.parametrize("name", TYPES)
def test_examples_show_none(name: str) -> None:
    """No example, the first thing that integrators copy, shows anything like personal data."""
    texts = list(leaves(catalogue.example(name)))

    assert [(kind, text) for kind, pattern in PATTERNS.items() for text in texts if pattern.search(text)] == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("e-mail address", "Fale com ana@example.org"),
        ("telephone", "+55 51 99999-0000"),
        ("telephone", "(51) 3333-0000"),
        ("CPF", "123.456.789-09"),
        ("CEP", "92010-000, Canoas"),
        ("six-digit code", "042917"),
    ],
)
def test_planted_texts_are_found(kind: str, text: str) -> None:
    """The patterns bite."""
    assert PATTERNS[kind].search(text)
