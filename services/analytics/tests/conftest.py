"""The service under test."""

from __future__ import annotations

import logging

import pytest
import structlog
from analytics import consumers
from chassis.broker import Incoming, Publisher
from chassis.consumer import ConsumerRunner
from chassis.database import Database
from chassis.message_store import SqlMessageStore

from services.analytics.tests.story import Told

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))  # thousands of events

pytest_plugins = ["chassis.testing.plugin"]


@pytest.fixture(scope="session")
def service_name() -> str:
    """Which service these tests are of."""
    return "analytics"


class Projector:
    """Hands messages to the consumer as the broker would, batch by batch."""

    def __init__(self, database: Database) -> None:
        publisher = Publisher("amqp://nobody", name="test")  # never opened: a retry would hang, and the test with it
        self._runner = ConsumerRunner("analytics", consumers.EVENTS, SqlMessageStore(database), publisher)

    async def take(self, told: list[Told], *, batch: int = 100) -> None:
        """Project these messages, in this order, duplicates included."""
        incoming = [Incoming(n, str(each.id), each.routing_key, each.body, {}) for n, each in enumerate(told)]
        for start in range(0, len(incoming), batch):
            await self._runner.handle(incoming[start : start + batch])


@pytest.fixture(scope="session")
def projector(database: Database) -> Projector:
    """Projects into the service's database without a broker."""
    return Projector(database)
