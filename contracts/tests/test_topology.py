"""Names on the broker: fixed, because a renamed queue is a lost queue."""

from __future__ import annotations

import pytest
from contracts.registry import event_types

from contracts import topology


def test_names() -> None:
    """The names that running brokers already know."""
    assert topology.exchange("batches") == "evt.batches"
    assert topology.queue("analytics", "projections") == "q.analytics.projections"
    assert [topology.retry_queue("batches", delay) for delay in topology.RETRY_DELAYS_S] == [
        "retry.batches.1s", "retry.batches.5s", "retry.batches.30s", "retry.batches.120s", "retry.batches.600s",
        "retry.batches.3600s",
    ]  # fmt: skip
    assert topology.dead_letter_queue("batches") == "dlq.batches"


def test_services() -> None:
    """The seven services, each once; whoever publishes is one of them."""
    assert sorted(topology.SERVICES) == [
        "analytics", "batches", "deliveries", "identity", "notifications", "resources", "webhooks",
    ]  # fmt: skip
    assert {event.producer for event in event_types().values()} <= set(topology.SERVICES)


def test_attempts() -> None:
    """Eight waits, never shorter than the one before, each with a retry queue to wait in."""
    assert topology.ATTEMPT_DELAYS_S == (1, 5, 30, 120, 600, 3600, 3600, 3600)
    assert set(topology.ATTEMPT_DELAYS_S) == set(topology.RETRY_DELAYS_S)


@pytest.mark.parametrize("service", topology.SERVICES)
def test_names_never_meet(service: str) -> None:
    """No two names of all services are the same, and all fit into AMQP's short string of 255 bytes."""
    names = [
        name
        for one in topology.SERVICES
        for name in (
            topology.exchange(one),
            topology.queue(one, service),
            topology.dead_letter_queue(one),
            *(topology.retry_queue(one, delay) for delay in topology.RETRY_DELAYS_S),
        )
    ]

    assert len(names) == len(set(names))
    assert max(len(name.encode()) for name in names) <= 255


def test_routing_keys() -> None:
    """A routing key is its type without the service: three words that a topic pattern can tell apart."""
    for name, event in event_types().items():
        assert event.routing_key().count(".") == 2
        assert len(event.routing_key().encode()) <= 255
        assert name == f"vouajudar.{event.producer}.{event.routing_key()}"
