"""The golden examples of what is stored bite: whatever would make an old row unreadable is named, with what to do."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, make_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from chassis.kernel import Aggregate
from chassis.repository import Repository
from chassis.testing import stored

Fields = dict[str, Any]
Size = StrEnum("Size", {"SMALL": "small", "LARGE": "large"})
FewerSizes = StrEnum("FewerSizes", {"SMALL": "small"})
MoreSizes = StrEnum("MoreSizes", {"SMALL": "small", "LARGE": "large", "HUGE": "huge"})
FIELDS: Fields = {"label": str, "size": Size, "grams": int | None, "tags": tuple[str, ...]}

REVISE = "raise the class's stored_revision"
RUN = "run python -m scripts.stored_examples"


@dataclass
class Shelf(Aggregate):
    """State as the first release has it."""

    jars: int = 0
    sizes: list[Size] = field(default_factory=list)


def _jar_put(
    fields: Fields, *, revision: int = 1, slots: bool = True, bases: tuple[type, ...] = (), **optional: Any
) -> type:
    """The event class as some release has it; `optional` fields are `int | None` with a default."""
    spec: list[Any] = [*fields.items(), *((name, int | None, field(default=one)) for name, one in optional.items())]
    namespace = {"stored_revision": revision}
    return make_dataclass("JarPut", spec, kw_only=True, frozen=True, slots=slots, bases=bases, namespace=namespace)


class Loud:
    """Makes of the label what was not stored."""

    label: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label.upper())


def _release(*events: type, upcasters: Any = None, state: type = Shelf) -> list[Repository[Any]]:
    return [
        Repository(
            table="shelves",
            aggregate=state,
            events={event.__name__: event for event in events},
            upcasters=upcasters,
            columns=lambda _: {},
            announce=lambda *_: None,
        )
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The golden examples that the first release brought."""
    assert stored.write(tmp_path, _release(_jar_put(FIELDS))) == ["JarPut.json", "Shelf.json"]
    assert stored.faults(tmp_path, _release(_jar_put(FIELDS))) == []
    return tmp_path


def test_examples_show_each_alternative_once() -> None:
    """Every word of an enum, every optional field both ways, every list empty and filled; nothing twice."""
    assert stored.examples_of(_jar_put(FIELDS)) == [
        {"label": "text", "size": "small", "grams": 7, "tags": ["text"]},
        {"label": "text", "size": "large", "grams": None, "tags": []},
    ]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (_jar_put(FIELDS, year=None), REVISE),
        (_jar_put(FIELDS, year=None, slots=False), REVISE),
        (_jar_put(FIELDS | {"year": int}), REVISE),
        (_jar_put({name: kind for name, kind in FIELDS.items() if name != "tags"}), REVISE),
        (_jar_put({"text" if name == "label" else name: kind for name, kind in FIELDS.items()}), REVISE),
        (_jar_put(FIELDS | {"label": int}), REVISE),
        (_jar_put(FIELDS | {"grams": int}), REVISE),
        (_jar_put(FIELDS | {"tags": str}), REVISE),
        (_jar_put(FIELDS | {"size": FewerSizes}), REVISE),
        (_jar_put(FIELDS, bases=(Loud,)), REVISE),
        (_jar_put(FIELDS | {"size": MoreSizes}), RUN),
        (_jar_put(FIELDS | {"label": str | None}), RUN),
    ],
    ids=[
        "optional field added", "with a dict", "field added", "field removed", "field renamed", "type changed", "null refused",
        "list to text", "word removed", "read otherwise", "word added", "null allowed",
    ],
)  # fmt: skip
def test_a_changed_class_is_told_what_to_do(folder: Path, changed: type, told: str) -> None:
    """Another shape needs a revision; what reads every old row and says more needs new examples only."""
    found = stored.faults(folder, _release(changed))

    assert found
    assert all("JarPut" in fault and told in fault for fault in found)


def test_what_only_says_more_gets_examples(folder: Path) -> None:
    """The tool adds the examples that are missing and keeps those that are there."""
    before, more = _lines(folder / "JarPut.json"), _release(_jar_put(FIELDS | {"size": MoreSizes}))

    assert stored.write(folder, more) == ["JarPut.json"]

    assert stored.faults(folder, more) == []
    assert _lines(folder / "JarPut.json")[: len(before)] == before
    assert stored.write(folder, more) == []


def test_the_tool_does_not_hide_another_shape(folder: Path) -> None:
    """It neither rewrites golden examples of a class that changed without a revision, nor adds to them."""
    before = (folder / "JarPut.json").read_bytes()

    for changed in (_jar_put(FIELDS, year=None), _jar_put(FIELDS | {"year": int})):
        assert stored.write(folder, _release(changed)) == []
        assert stored.faults(folder, _release(changed)) != []
    assert (folder / "JarPut.json").read_bytes() == before


def test_a_new_revision_is_read_beside_the_old(folder: Path) -> None:
    """With revision, upcaster and the tool's new file all holds, and the old file is as it was."""
    before = (folder / "JarPut.json").read_bytes()
    release = _release(
        _jar_put(FIELDS | {"year": int}, revision=2), upcasters={("JarPut", 1): lambda data: {**data, "year": 0}}
    )
    assert all(fault.startswith("JarPut.r2 can say") for fault in stored.faults(folder, release))

    assert stored.write(folder, release) == ["JarPut.r2.json"]

    assert stored.faults(folder, release) == []
    assert (folder / "JarPut.json").read_bytes() == before


def test_an_upcaster_that_forgets_a_field_is_found(folder: Path) -> None:
    """Every step is tried on every golden example of every revision before it."""
    release = _release(_jar_put(FIELDS | {"year": int}, revision=2), upcasters={("JarPut", 1): lambda data: data})
    stored.write(folder, release)

    found = stored.faults(folder, release)

    assert found
    assert all("'JarPut'" in fault and "year" in fault for fault in found)


def test_nothing_is_forgotten(folder: Path) -> None:
    """A class of which there are stored events stays; the golden file of an old revision cannot be made again."""
    upcasters = {("JarPut", 1): lambda data: {**data, "year": 0}}
    release = _release(_jar_put(FIELDS | {"year": int}, revision=2), upcasters=upcasters)
    stored.write(folder, release)
    assert stored.faults(folder, _release()) == [
        f"{type_} has a golden file and no class: what is stored once stays readable, its class stays"
        for type_ in ("JarPut", "JarPut.r2")
    ]

    (folder / "JarPut.json").unlink()

    assert [fault.partition(";")[0] for fault in stored.faults(folder, release)] == ["JarPut has no golden file"]


def test_a_class_without_golden_file_is_found(folder: Path) -> None:
    """A new event class is not stored before its examples are kept."""
    taken = make_dataclass("JarTaken", [("label", str)], kw_only=True)

    found = stored.faults(folder, _release(_jar_put(FIELDS), taken))

    assert found == [f"JarTaken can say what none of its golden examples shows: {RUN}"]


def test_state_that_cannot_be_read_is_found(folder: Path) -> None:
    """A state with a new field without a default, or without a word it may hold, names its table and `refold`."""

    @dataclass
    class Shelf(Aggregate):
        jars: str = ""
        sizes: list[FewerSizes] = field(default_factory=list)

    found = stored.faults(folder, _release(_jar_put(FIELDS), state=Shelf))

    assert [fault for fault in found if "rows of shelves" in fault and "refold" in fault]
    assert len(_lines(folder / "states" / "Shelf.json")) == len(found) - 1


def test_state_with_a_default_is_read(folder: Path) -> None:
    """A new field with a default reads every old row; the tool adds today's shape and the old examples stay."""

    @dataclass
    class Shelf(Aggregate):
        jars: int = 0
        sizes: list[Size] = field(default_factory=list)
        newest_year: int = 0

    release = _release(_jar_put(FIELDS), state=Shelf)
    assert stored.faults(folder, release) == [f"the state of Shelf has no golden example of today's shape: {RUN}"]

    assert stored.write(folder, release) == ["Shelf.json"]

    assert stored.faults(folder, release) == []
    assert {len(line) for line in _lines(folder / "states" / "Shelf.json")} == {4, 5}


def _lines(path: Path) -> list[Any]:
    found: list[Any] = json.loads(path.read_bytes())
    return found
