"""What may become of a published schema: each rule with the change that it forbids, and those that it allows."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from contracts.compatibility import breaks, with_unknown_fields
from contracts.envelope import Moment
from contracts.generate import schema_for
from contracts.registry import event_types
from pydantic import BaseModel, Field, create_model

from contracts import catalogue

Slug = Annotated[str, Field(pattern=r"^[a-z_]+$", max_length=40)]


class Part(BaseModel):
    """A part of a shipment."""

    part_id: UUID
    grams: int = Field(ge=0, le=1000)
    note: Slug | None = None


SHIPPED: dict[str, Any] = {
    "shipment_id": (UUID, ...),
    "at": (Moment, ...),
    "status": (Literal["open", "closed"], ...),
    "colour": (Literal["red", "blue"] | Slug, ...),
    "code": (str, Field("AA", pattern="^[A-Z]{2}$", min_length=2, max_length=2)),
    "weight": (int | None, None),
    "parts": (list[Part], Field(max_length=10)),
    "main": (Part, ...),
    "counts": (dict[str, int], ...),
    "usable": (bool, False),
}


def schema(fields: dict[str, Any]) -> dict[str, Any]:
    """The schema of an event with these fields, as it would be published."""
    return schema_for(create_model("ShipmentSent", **fields), "https://example.org/shipment.json")


def part(**changes: Any) -> type[BaseModel]:
    """`Part` with other fields; None takes one away."""
    own: dict[str, Any] = {name: (info.annotation, info) for name, info in Part.model_fields.items()}
    return create_model("Part", **{name: one for name, one in (own | changes).items() if one is not None})


def code(**limits: Any) -> Any:
    """The field `code` with other limits."""
    return str, Field("AA", **limits)


def parts(item: Any, **limits: Any) -> Any:
    """The field `parts` of other items, with other limits."""
    return list[item], Field(**limits)


def changed(**changes: Any) -> dict[str, Any]:
    """The shipment with other fields; None takes one away."""
    return schema({name: one for name, one in (SHIPPED | changes).items() if one is not None})


@pytest.mark.parametrize(
    "now",
    [
        changed(),
        changed(cooled=(bool | None, None)),
        changed(main=(part(cooled=(bool, False)), ...)),
        changed(parts=parts(part(grams=(int, Field(ge=-5, le=9000))), max_length=20)),
        changed(parts=parts(Part)),
        changed(code=code(max_length=9)),
        changed(colour=(Literal["red", "blue", "green"] | Slug, ...)),
        changed(usable=(Annotated[bool, Field(description="still good", deprecated=True)], False)),
    ],
    ids=[
        "nothing", "optional field", "optional field inside", "wider limits", "no limit", "no pattern", "a word of an open field",
        "other words about it",
    ],
)  # fmt: skip
def test_what_is_allowed(now: dict[str, Any]) -> None:
    """Readers of either version understand the other's messages."""
    assert breaks(schema(SHIPPED), now) == []


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (changed(weight=None), ["weight: was removed"]),
        (changed(main=(part(note=None), ...)), ["main.note: was removed"]),
        (changed(weight=None, mass=(int | None, None)), ["weight: was removed"]),
        (changed(cooled=(bool, ...)), ["cooled: is new and required"]),
        (changed(main=(part(cooled=(bool, ...)), ...)), ["main.cooled: is new and required"]),
        (changed(weight=(int | None, ...)), ["weight: default changed from None to nothing", "weight: became required"]),
        (changed(at=(Moment | None, None)), ["at: may be null now", "at: was always there and may be absent now"]),
        (changed(weight=(int, 0)), ["weight: default changed from None to 0", "weight: may not be null any more"]),
        (changed(shipment_id=(str, ...)), ["shipment_id: format changed from 'uuid' to nothing"]),
        (changed(at=(int, ...)), ["at: format changed from 'date-time' to nothing", "at: type changed from 'string' to 'integer'"]),
        (changed(usable=(bool, True)), ["usable: default changed from False to True"]),
        (changed(status=(Literal["open"], ...)), ["status: const changed", "status: is not one of a few words any more"]),
        (changed(status=(Literal["open", "shut"], ...)), ["status: lost the words ['closed']", "status: gained the words ['shut']"]),
        (changed(status=(Literal["open", "closed", "lost"], ...)), ["status: gained the words ['lost']"]),
        (changed(status=(Slug, ...)), ["status: maxLength is narrower", "status: pattern changed", "status: is not one of"]),
        (changed(status=(Literal["open", "closed"] | Slug, ...)), ["status: has other alternatives"]),
        (changed(colour=(Literal["red"] | Slug, ...)), ["colour: const changed", "colour: is not one of"]),
        (changed(code=code(pattern="^[A-Z]{2}$", min_length=2, max_length=1)), ["code: maxLength is narrower: 2 became 1"]),
        (changed(code=code(pattern="^[A-Z]+$", max_length=2)), ["code: pattern changed"]),
        (changed(parts=parts(Part, min_length=1, max_length=10)), ["parts: minItems is narrower: nothing became 1"]),
        (changed(parts=parts(UUID, max_length=10)), ["parts[]: "]),
        (changed(counts=(dict[str, float], ...)), ["counts[]: type changed from 'integer' to 'number'"]),
        (changed(main=(part(grams=(int, Field(ge=1, le=1000))), ...)), ["main.grams: minimum is narrower: 0 became 1"]),
        (schema(SHIPPED) | {"additionalProperties": False}, ["the whole: additionalProperties changed"]),
        (schema(SHIPPED) | {"$id": "https://example.org/other.json"}, ["the whole: $id changed"]),
        (schema(SHIPPED) | {"dependentRequired": {"at": ["code"]}}, ["the whole: dependentRequired changed"]),
    ],
)  # fmt: skip
def test_what_is_a_new_major(now: dict[str, Any], told: list[str]) -> None:
    """Everything else breaks somebody, and is named by its path."""
    found = breaks(schema(SHIPPED), now)

    assert found
    for expected in told:
        assert any(fault.startswith(expected) for fault in found), found
    assert all(fault.startswith(tuple(one.partition(":")[0] for one in told)) for fault in found), (
        "nothing else is blamed"
    )


def test_references_that_lead_back_end() -> None:
    """A schema that contains itself is compared once, and what breaks deep inside is found."""

    class Box(BaseModel):
        grams: int
        inner: list[Box] = []

    before = schema({"box": (Box, ...)})
    now = schema({"box": (Box, ...)})
    now["$defs"]["Box"]["properties"]["grams"] = {"type": "string"}

    assert breaks(before, before) == []
    assert breaks(before, now) == ["box.grams: type changed from 'integer' to 'string'"]


@pytest.mark.parametrize("name", event_types())
def test_unknown_fields_are_planted_everywhere(name: str) -> None:
    """Every object of fixed fields gets one, free tables stay as they are."""
    example, whole = catalogue.example(name)["data"], catalogue.schema(name)

    later = with_unknown_fields(example, whole)

    assert later.pop("x_later") == "unknown"
    assert _count(later, "x_later") == _objects(example) - 1
    assert "x_later" not in later.get("jwk", {})


def _objects(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_objects, value))
    return 1 + sum(_objects(one) for key, one in value.items() if key != "jwk") if isinstance(value, dict) else 0


def _count(value: Any, key: str) -> int:
    if isinstance(value, list):
        return sum(_count(one, key) for one in value)
    return (key in value) + sum(_count(one, key) for one in value.values()) if isinstance(value, dict) else 0
