"""What may become of a published JSON Schema: yesterday's messages stay readable, and today's by yesterday's readers.

Allowed: new optional fields, wider limits, other words about it. Everything else is a new major. An enum is closed: a
reader that never heard of a word refuses the message, so a new word is a break too, unless the field was published open,
as `Literal["a", "b"] | Slug`: an enum beside any text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

_WORDS_ABOUT_IT = frozenset({"$schema", "$defs", "title", "description", "examples", "deprecated", "$comment"})
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_DROPPABLE = ("pattern", "multipleOf", "uniqueItems")  # one may go; another cannot be compared with it
_INSIDE = ("items", "additionalProperties", "propertyNames")
_JUDGED = _WORDS_ABOUT_IT | {*_UPPER, *_LOWER, *_DROPPABLE, *_INSIDE, "enum", "properties", "required"}


def breaks(before: Schema, now: Schema) -> list[str]:
    """`path: why` of everything in `now` that `before` did not promise; empty when they are compatible."""
    return list(dict.fromkeys(_Comparison(before, now).of(before, now, "")))


def with_unknown_fields(value: Any, schema: Schema) -> Any:
    """The value as a later version of its type might send it: with one more field in every object of fixed fields."""
    return _with_more(value, schema, schema)


class _Comparison:
    """Two whole schemas, whose `$ref`s are resolved each in its own."""

    def __init__(self, before: Schema, now: Schema) -> None:
        self._before = before
        self._now = now
        self._seen: set[tuple[str, str]] = set()  # references that lead back to themselves are compared once

    def of(self, before: Schema, now: Schema, path: str) -> Iterator[str]:
        """Everything that breaks at and below `path`."""
        pair = (before.get("$ref", ""), now.get("$ref", ""))
        if all(pair):
            if pair in self._seen:
                return
            self._seen.add(pair)
        then, today = _resolved(before, self._before), _resolved(now, self._now)
        yield from self._alternatives(then, today, path)
        self._seen.discard(pair)

    def _alternatives(self, then: Schema, today: Schema, path: str) -> Iterator[str]:
        (around, had), (now_around, has) = _parts(then), _parts(today)
        yield from _other_keywords(around, now_around, path)
        if (_NULL in had) != (_NULL in has):
            yield _at(path, "may not be null any more" if _NULL in had else "may be null now")
        had = [_resolved(part, self._before) for part in had if part != _NULL]
        has = [_resolved(part, self._now) for part in has if part != _NULL]
        if len(had) != len(has):
            yield _at(path, "has other alternatives")
            return
        is_open = any(_takes_any_text(part) for part in had)
        for one, other in zip(had, has, strict=True):
            yield from self._one(one, other, path, is_open=is_open)

    def _one(self, then: Schema, today: Schema, path: str, *, is_open: bool) -> Iterator[str]:
        yield from _other_keywords(then, today, path)
        yield from _limits(then, today, path)
        yield from _words(then, today, path, is_open=is_open)
        yield from self._fields(then, today, path)
        for keyword in _INSIDE:
            one, other = then.get(keyword, True), today.get(keyword, True)
            if isinstance(one, Mapping) and isinstance(other, Mapping):
                yield from self.of(one, other, f"{path}[]")
            elif one != other:
                yield _at(path, f"{keyword} changed")

    def _fields(self, then: Schema, today: Schema, path: str) -> Iterator[str]:
        had, has = then.get("properties", {}), today.get("properties", {})
        always, now_always = set(then.get("required", ())), set(today.get("required", ()))
        for name in sorted(had.keys() | has.keys()):
            field = f"{path}.{name}".lstrip(".")
            if name not in has:
                yield _at(field, "was removed")
                continue
            if name in had:
                yield from self.of(had[name], has[name], field)
            if name in now_always - always:
                yield _at(field, "became required" if name in had else "is new and required")
            if name in always - now_always:
                yield _at(field, "was always there and may be absent now")


def _with_more(value: Any, schema: Schema, root: Schema) -> Any:
    parts = [_resolved(part, root) for part in _parts(_resolved(schema, root))[1]]
    if isinstance(value, list):
        item: Schema = next((part["items"] for part in parts if "items" in part), {})
        return [_with_more(one, item, root) for one in value]
    fields = next((part["properties"] for part in parts if "properties" in part), None)
    if not isinstance(value, dict) or fields is None:  # a table of anything has no unknown fields
        return value
    return {name: _with_more(one, fields.get(name, {}), root) for name, one in value.items()} | {"x_later": "unknown"}


_NULL: Schema = {"type": "null"}


def _resolved(schema: Schema, root: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    target = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return {**_resolved(target, root), **{key: value for key, value in schema.items() if key != "$ref"}}


def _parts(schema: Schema) -> tuple[Schema, Sequence[Schema]]:
    """What is said of the whole, and its alternatives; a schema without is its own only one."""
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return {key: value for key, value in schema.items() if key != keyword}, schema[keyword]
    whole = {key: value for key, value in schema.items() if key == "default"}
    return whole, [{key: value for key, value in schema.items() if key not in whole}]


def _takes_any_text(schema: Schema) -> bool:
    return schema.get("type") == "string" and not {"enum", "const", "format"} & schema.keys()


def _other_keywords(then: Schema, today: Schema, path: str) -> Iterator[str]:
    """Whatever has no rule of its own must be the same: type, format, const, default, and what we never used."""
    for keyword in sorted((then.keys() | today.keys()) - _JUDGED):
        if then.get(keyword, _NOTHING) != today.get(keyword, _NOTHING):
            yield _at(path, f"{keyword} changed from {_shown(then, keyword)} to {_shown(today, keyword)}")


def _limits(then: Schema, today: Schema, path: str) -> Iterator[str]:
    for keyword in (*_UPPER, *_LOWER):
        if keyword not in today:
            continue
        old, new = then.get(keyword), today[keyword]
        if old is None or (new < old if keyword in _UPPER else new > old):
            yield _at(path, f"{keyword} is narrower: {_shown(then, keyword)} became {new}")
    for keyword in _DROPPABLE:
        if keyword in today and today[keyword] != then.get(keyword, _NOTHING):
            yield _at(path, f"{keyword} changed from {_shown(then, keyword)} to {today[keyword]}")


def _words(then: Schema, today: Schema, path: str, *, is_open: bool) -> Iterator[str]:
    if ("enum" in then) != ("enum" in today):
        yield _at(path, "became one of a few words" if "enum" in today else "is not one of a few words any more")
        return
    had, has = then.get("enum", []), today.get("enum", [])
    if lost := [word for word in had if word not in has]:
        yield _at(path, f"lost the words {lost}")
    if (gained := [word for word in has if word not in had]) and not is_open:
        yield _at(path, f"gained the words {gained}, and was not published as open")


_NOTHING = object()


def _shown(schema: Schema, keyword: str) -> str:
    return repr(schema[keyword]) if keyword in schema else "nothing"


def _at(path: str, why: str) -> str:
    return f"{path or 'the whole'}: {why}"
