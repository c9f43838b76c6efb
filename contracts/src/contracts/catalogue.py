"""The published catalogue: JSON Schema and golden example of every event type, read from the package's own files."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from contracts.registry import event_types


class UnknownEventType(LookupError):
    """No such event type is published."""


def schema(event_type: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the type's `data`; a fresh copy on every call."""
    return _read("schemas", _published(event_type))


def example(event_type: str) -> dict[str, Any]:
    """The golden example: one whole envelope of the type, as it travels; a fresh copy on every call."""
    return _read("examples", _published(event_type))


def envelope_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the envelope that all types share."""
    return _read("schemas", "envelope")


def _published(event_type: str) -> str:
    # Checked before it becomes a file name: the type may come from a URL.
    if event_type not in event_types():
        raise UnknownEventType(event_type)
    return event_type


def _read(folder: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files("contracts") / folder / f"{name}.json").read_bytes())
    return found
