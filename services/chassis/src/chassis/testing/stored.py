"""Golden examples of what services store: every event class in every revision, every state, kept for ever.

A folder `stored` has `<stored type>.json` and `states/<Aggregate>.json`: arrays, an example a line, as they lie in the
tables. Together the examples of a type show each alternative at least once: every word of an enum, every optional field
with and without a value, every list empty and filled.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from chassis.app import Service
from chassis.kernel import stored_type
from chassis.repository import Repository
from chassis.stored_events import StoredEvents, UnreadableEvent

TOOL = "python -m scripts.stored_examples"
_MOMENT = "2026-03-10T12:34:56.789012Z"
_ID = "019cd7e8-1d15-7a31-a68c-5d2c8f9b0e44"


def faults(folder: Path, repositories: Sequence[Repository[Any]]) -> list[str]:
    """What of the golden examples does not hold, each with what to do about it."""
    return [*_event_faults(folder, repositories), *_state_faults(folder / "states", repositories)]


def unlisted(service: Service) -> list[str]:
    """Repositories that `main` does not hand over: refolding would pass them over, and so would `faults`."""
    module = importlib.import_module(f"{service.name}.repository")
    listed = list(service.repositories)
    return [name for name, one in vars(module).items() if isinstance(one, Repository) and one not in listed]


def write(folder: Path, repositories: Sequence[Repository[Any]]) -> list[str]:
    """Adds the examples that are missing of classes as they are today, never touching one that is there; their files."""
    wanted = {folder / f"{stored_type(event)}.json": event for event in _events(repositories).values()}
    wanted |= {folder / "states" / f"{one.aggregate.__name__}.json": one.aggregate for one in repositories}
    changed = []
    for path, kind in wanted.items():
        known = _read(path)
        missing = [example for example in examples_of(kind) if example not in known]
        if missing and not (path.parent == folder and _has_another_shape(kind, known)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_text([*known, *missing]), encoding="utf-8")
            changed.append(path.name)
    return changed


def examples_of(kind: type) -> list[Any]:
    """JSON values of a class that together show each of its alternatives once."""
    return list(_choices(inspect.type_info(kind)))


def _choices(kind: inspect.Type) -> Sequence[Any]:
    match kind:
        case inspect.DataclassType():
            fields = {field.encode_name: _choices(field.type) for field in kind.fields}
            count = max((len(choices) for choices in fields.values()), default=1)
            return [{name: choices[n % len(choices)] for name, choices in fields.items()} for n in range(count)]
        case inspect.UnionType():
            return [choice for part in kind.types for choice in _choices(part)]
        case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
            return [*([choice] for choice in _choices(kind.item_type)), []]
        case inspect.DictType():
            (key, *_) = _choices(kind.key_type)
            return [*({key: choice} for choice in _choices(kind.value_type)), {}]
        case inspect.EnumType():
            return [member.value for member in kind.cls]
        case inspect.LiteralType():
            return list(kind.values)
    return _SCALARS[type(kind)]


_SCALARS: dict[type[inspect.Type], Sequence[Any]] = {
    inspect.NoneType: [None],
    inspect.BoolType: [True, False],
    inspect.IntType: [7],
    inspect.FloatType: [0.5],
    inspect.StrType: ["text"],
    inspect.UUIDType: [_ID],
    inspect.DateTimeType: [_MOMENT],
    inspect.DateType: ["2026-03-10"],
    inspect.TimeType: ["12:34:56"],
    inspect.TimeDeltaType: ["PT90S"],
}


def _event_faults(folder: Path, repositories: Sequence[Repository[Any]]) -> Iterator[str]:
    stores: dict[str, StoredEvents] = {type_: one.stored for one in repositories for type_ in one.stored.types}
    files = {path.stem: path for path in folder.glob("*.json")}
    for type_ in sorted(files.keys() - stores.keys()):
        yield f"{type_} has a golden file and no class: what is stored once stays readable, its class stays"
    today = {stored_type(event): event for event in _events(repositories).values()}
    for type_, store in sorted(stores.items()):
        examples = _read(files[type_]) if type_ in files else []
        unreadable = list(_unreadable(type_, examples, store))
        yield from unreadable
        if type_ in today and not unreadable:
            yield from _drift(type_, today[type_], examples)
        elif not examples:
            yield f"{type_} has no golden file; it was made with that revision and is kept for ever: take it from history"


def _unreadable(type_: str, examples: Iterable[Any], store: StoredEvents) -> Iterator[str]:
    for example in examples:
        try:
            store.decode(type_, example)
        except UnreadableEvent as error:
            yield f"stored events of {error} — {_REVISE}: {json.dumps(example)}"


def _drift(type_: str, event: type, examples: Sequence[Any]) -> Iterator[str]:
    if _has_another_shape(event, examples):
        yield f"{type_} is stored in another shape than its golden examples — {_REVISE}"
    elif any(example not in examples for example in examples_of(event)):
        yield f"{type_} can say what none of its golden examples shows: run {TOOL}"


_REVISE = (
    "raise the class's stored_revision, add the upcaster from the revision before, leave the old golden file as it is,"
    f" run {TOOL} (contracts/README.md, 'Changing a stored event')"
)


def _has_another_shape(event: type, examples: Sequence[Any]) -> bool:
    """Whether the class has other fields than what was stored then, or stores the same facts otherwise."""
    if examples and _paths(examples) != _paths(examples_of(event)):
        return True
    try:
        return any(_encoded(msgspec.convert(example, event)) != example for example in examples)
    except msgspec.ValidationError:
        return True


def _paths(value: Any) -> set[str]:
    """The names of all fields, with what they are in."""
    if isinstance(value, list):
        return {path for one in value for path in _paths(one)}
    if isinstance(value, dict):
        return {name for key, one in value.items() for name in (key, *(f"{key}.{path}" for path in _paths(one)))}
    return set()


def _state_faults(folder: Path, repositories: Sequence[Repository[Any]]) -> Iterator[str]:
    for repository in repositories:
        kind = repository.aggregate
        examples = _read(folder / f"{kind.__name__}.json")
        for example in examples:
            try:
                msgspec.convert(example, kind)
            except msgspec.ValidationError as error:
                yield (
                    f"rows of {repository.table} stored by earlier releases cannot be read ({error}): give the field a default,"
                    f" or take the example out and let the release note say `refold` (contracts/README.md): {json.dumps(example)}"
                )
        if any(example not in examples for example in examples_of(kind)):
            yield f"the state of {kind.__name__} has no golden example of today's shape: run {TOOL}"


def _events(repositories: Sequence[Repository[Any]]) -> dict[str, type]:
    return {name: event for one in repositories for name, event in one.stored.events.items()}


def _encoded(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


def _read(path: Path) -> list[Any]:
    found: list[Any] = json.loads(path.read_bytes()) if path.is_file() else []
    return found


def _text(examples: Iterable[Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(example, ensure_ascii=False) for example in examples) + "\n]\n"
