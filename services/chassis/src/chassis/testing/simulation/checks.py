"""The promises: each committed event applied once by each consumer, in order, the newest last, and nothing left over."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from contracts.events.identity import UserSuspended

from chassis.message_store import Stream
from chassis.testing.simulation.broker import Broker
from chassis.testing.simulation.database import Tables
from chassis.testing.simulation.schedule import CONSUMERS
from chassis.testing.simulation.world import World

HANDLED = UserSuspended.routing_key()


class Ledger:
    """What consumers applied, in the order of their commits."""

    def __init__(self, world: World, tables: Tables) -> None:
        self._world = world
        self._tables = tables
        self._versions: dict[tuple[str, UUID], list[int]] = {}
        self.count = 0

    def applied(self, consumer: str, subject: UUID, version: int) -> None:
        """Called as part of the commit."""
        self.count += 1
        had = self._versions.setdefault((consumer, subject), [])
        self._world.note("{} applies {}", consumer, self._tables.events[subject, version].event_id)
        name = self._world.names[str(subject)]
        if version in had:
            self._world.broken(f"{consumer} applied {name}{version} twice")
        elif consumer != "any" and had and version < had[-1]:
            self._world.broken(f"{consumer} applied {name}{version} after {name}{had[-1]}")
        elif consumer == "gated" and (missing := self._missing(consumer, subject, had, version)):
            self._world.broken(f"{consumer} applied {name}{version} before {name}{missing[0]}")
        had.append(version)

    def check(self, subjects: Sequence[UUID]) -> None:
        """Once everything has come to rest."""
        for consumer in CONSUMERS:
            for subject in subjects:
                had = self._versions.get((consumer, subject), [])
                missing = self._missing(consumer, subject, had, 1 + self._tables.versions.get(subject, 0))
                if consumer == "newest":  # what is newer stands for it
                    missing = [version for version in missing if not had or version > had[-1]]
                if missing:
                    name = self._world.names[str(subject)]
                    self._world.broken(f"{consumer} never applied {missing} of {name}, but {had}")

    def told(self) -> list[tuple[str, str, list[int]]]:
        """Everything, for comparison."""
        return [(consumer, subject.hex, versions) for (consumer, subject), versions in self._versions.items()]

    def _missing(self, consumer: str, subject: UUID, had: Sequence[int], before: int) -> list[int]:
        """Announced versions that were not applied, and not discarded by an operator."""
        expected = [version for version in range(1, before)
                    if version not in had and self._tables.events[subject, version].routing_key == HANDLED]  # fmt: skip
        if not expected:
            return expected
        discarded = {letter.stream.version for letter in self._tables.letters.values()
                     if letter.consumer == consumer and letter.status == "discarded"
                     and letter.stream is not None and letter.stream.id == subject}  # fmt: skip
        return [version for version in expected if version not in discarded]


def left_over(tables: Tables, broker: Broker) -> list[str]:
    """What has not come to rest."""
    found = {
        "in the outbox": len(tables.outbox),
        "parked": sum(map(len, tables.parked.values())),
        "retrying": sum(not _had(tables, *key, stream) for key, (stream, _) in tables.retrying.items()),
        "suspect": len(tables.suspects),
        "dead letters": sum(letter.status in ("open", "redriving") for letter in tables.letters.values()),
        **{f"in {queue.name}": queue.size() for queue in broker.queues.values()},
    }
    return [f"{count} {where}" for where, count in found.items() if count]


def _had(tables: Tables, consumer: str, message_id: str, stream: Stream) -> bool:
    """A note about the ladder may outlive its process; once the message was had it means nothing."""
    if (consumer, UUID(message_id)) in tables.inbox:
        return True
    row = tables.positions.get((consumer, stream.id))
    return row is not None and row.version >= stream.version
