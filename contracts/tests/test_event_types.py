"""How events are named, and that the registry knows every one of them."""

from __future__ import annotations

import inspect
import pkgutil
import re
from importlib import import_module

import contracts.events
import pytest
from contracts.envelope import Event, fact_of, schema_of, source_of
from contracts.registry import event_types

TYPE = re.compile(r"vouajudar\.[a-z]+(\.[a-z]+(_[a-z]+)*){2}\.v[1-9][0-9]*")
# What has happened, where English does not say it with -ed.
HAPPENED = frozenset({
    "ready", "held", "hold_split", "reservation_made", "lost", "goods_lost", "picked_up", "split", "split_off",
    "waiting_list_left", "volunteer_no_show", "withdrawn", "test", "awaiting_confirmation", "failing",
})  # fmt: skip


def concrete_events() -> list[type[Event]]:
    """Every publishable class of every module in `contracts.events`, registered or not."""
    names = [module.name for module in pkgutil.iter_modules(contracts.events.__path__)]
    modules = [import_module(f"contracts.events.{name}") for name in names]
    classes = [value for module in modules for value in vars(module).values() if inspect.isclass(value)]
    return [
        c for c in classes if issubclass(c, Event) and c.__module__.startswith("contracts.events.") and not c.abstract
    ]


def is_past(event: type[Event]) -> bool:
    """A fact, not an intention."""
    fact = fact_of(event.__name__, event.aggregate)
    return fact.endswith("ed") or fact in HAPPENED


def test_nothing_is_forgotten() -> None:
    """Every concrete event is registered, and no two share a type."""
    assert sorted(event.type_name() for event in concrete_events()) == sorted(event_types())


@pytest.mark.parametrize("name", event_types())
def test_type_name(name: str) -> None:
    """Service, aggregate, fact, major version; the module is the service's."""
    event = event_types()[name]

    assert TYPE.fullmatch(name)
    assert event.__module__ == f"contracts.events.{event.producer}"
    assert is_past(event), f"{event.__name__} is no fact"
    assert (event.__doc__ or "").strip().endswith("."), "its docstring says what happened"


def test_an_intention_is_noticed() -> None:
    """The rule bites: a command among the events is refused."""

    class BatchCancel(Event):
        producer = "batches"
        aggregate = "batch"

    assert BatchCancel.type_name() == "vouajudar.batches.batch.cancel.v1"
    assert not is_past(BatchCancel)


def test_an_aggregate_has_one_producer() -> None:
    """Only one service says what happened to an aggregate."""
    owners = {(event.aggregate, event.producer) for event in event_types().values()}

    assert len({aggregate for aggregate, _ in owners}) == len(owners)


def test_addresses() -> None:
    """Where an event comes from and where its schema is."""
    assert source_of("batches") == "/services/batches"
    assert (
        schema_of("vouajudar.batches.batch.ready.v1")
        == "https://vouajudar.org/schemas/vouajudar.batches.batch.ready.v1.json"
    )


def test_the_next_major() -> None:
    """A new major is a class beside the old one that says so: another type, another routing key."""

    class BatchReady(Event):
        producer = "batches"
        aggregate = "batch"
        major = 2

    assert BatchReady.type_name() == "vouajudar.batches.batch.ready.v2"
    assert BatchReady.routing_key() == "batch.ready.v2"
