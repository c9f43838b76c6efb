"""Which model is behind an event type, and bytes to typed events; the one list of everything that is published."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType

from pydantic import ValidationError

from contracts.envelope import Envelope, Event
from contracts.events import batches, deliveries, identity, resources, webhooks

_MODULES: tuple[ModuleType, ...] = (identity, batches, deliveries, resources, webhooks)


class Undecodable(ValueError):
    """The bytes are no envelope of ours, or `data` does not fit its type; trying again cannot help."""


@dataclass(frozen=True, slots=True)
class Received:
    """A decoded message: the envelope, its typed data, and the very bytes they came in, for who passes them on."""

    envelope: Envelope
    event: Event
    body: bytes = field(default=b"", repr=False, compare=False)


@cache
def event_types() -> dict[str, type[Event]]:
    """Every published type by name, in order of definition."""
    found = [
        value
        for module in _MODULES
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Event)
        and value.__module__ == module.__name__
        and not value.abstract
    ]
    return {event.type_name(): event for event in found}


def envelope_of(body: bytes) -> Envelope:
    """The envelope of a message, whatever its type; raises `Undecodable` for anything else."""
    try:
        return Envelope.model_validate_json(body)
    except ValidationError as error:
        raise Undecodable(str(error)) from error


def typed(envelope: Envelope, body: bytes) -> Received:
    """An envelope with its typed data; raises `Undecodable` when the type is unknown or does not fit."""
    try:
        return Received(envelope, event_types()[envelope.type].model_validate(envelope.data), body)
    except KeyError as error:
        raise Undecodable(f"unknown event type {error}") from error
    except ValidationError as error:
        raise Undecodable(str(error)) from error


def decode(body: bytes) -> Received:
    """Envelope and typed data of a message; raises `Undecodable` for anything else."""
    return typed(envelope_of(body), body)
