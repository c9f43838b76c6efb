"""Stored events are never rewritten: their data is lifted, revision by revision, to the shape their class has today."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from chassis.kernel import Upcasters, revision_of, stored_type


class UnreadableEvent(ValueError):
    """A stored event that this release cannot read: a type or revision it does not know, or data that does not fit."""


class StoredEvents:
    """The event classes of a service's streams, and the steps from each earlier revision of one to the next.

    Built once, at import: a class without all its steps, or a step that leads nowhere, is refused there.
    """

    def __init__(self, events: Mapping[str, type], upcasters: Upcasters) -> None:
        self.events = events
        self._upcasters = upcasters
        self._known = {  # stored type → the event's name and the revision of the data
            stored_type(event, revision): (name, revision)
            for name, event in events.items()
            for revision in range(1, revision_of(event) + 1)
        }
        steps = {step for step in self._known.values() if step[1] < revision_of(events[step[0]])}
        if steps != upcasters.keys():
            raise TypeError(f"no upcaster from {steps - upcasters.keys()}, or of nothing: {upcasters.keys() - steps}")

    @property
    def types(self) -> Collection[str]:
        """Every stored type that is read: each class in each of its revisions."""
        return self._known.keys()

    def lift(self, type_: str, data: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The event's name and its data as a class of today takes them; raises `UnreadableEvent`."""
        if type_ not in self._known:
            raise UnreadableEvent(f"{type_!r}: this release reads {', '.join(sorted(self._known))}")
        name, revision = self._known[type_]
        lifted = dict(data)
        for step in range(revision, revision_of(self.events[name])):
            lifted = self._upcasters[name, step](lifted)
        return name, lifted

    def decode(self, type_: str, data: Mapping[str, Any]) -> Any:
        """The event; raises `UnreadableEvent`."""
        name, lifted = self.lift(type_, data)
        try:
            return msgspec.convert(lifted, self.events[name])
        except msgspec.ValidationError as error:
            raise UnreadableEvent(f"{type_!r}: {error}") from error
