"""Faults, each with a ledger of sent against applied as its judge, against the servers of `VAJ_E2E_HOME`."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from chassis.testing.patience import eventually
from chassis.testing.rig import Rig, Servers, made_databases, opened_rig

from scripts.chaos import killed_and_back
from scripts.stack import Stack, rabbitmq
from scripts.stack.environment import VIRTUAL_HOST

FAULT, LEDGER = "fault", "ledger"  # properties of a test's report


class Broker:
    """The RabbitMQ server itself."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def control(self, *arguments: str) -> str:
        """What `rabbitmqctl` answers."""
        return await asyncio.to_thread(rabbitmq.control, self._stack.instance, *arguments)

    @asynccontextmanager
    async def policy(self, pattern: str, **definition: Any) -> AsyncIterator[None]:
        """A policy for the queues whose names fit, meanwhile."""
        where = ("-p", VIRTUAL_HOST)
        await self.control("set_policy", *where, "fault", pattern, json.dumps(definition), "--apply-to", "queues")
        try:
            yield
        finally:
            await self.control("clear_policy", *where, "fault")

    async def emptied(self, *, timeout_s: float = 60.0) -> None:
        """Wait until no queue has a message, delivered ones that nobody acknowledged included."""

        async def empty() -> None:
            told = await self.control("list_queues", "-p", VIRTUAL_HOST, "name", "messages", "--formatter", "json")
            assert not [one for one in json.loads(told) if one["messages"]], told

        await eventually(empty, timeout_s=timeout_s)

    async def killed_and_back(self) -> None:
        """Kill the server; return when the one that took its place accepts clients."""
        await killed_and_back(self._stack, "rabbitmq")


@pytest.fixture(scope="session")
def broker(stack: Stack) -> Broker:
    return Broker(stack)


@pytest.fixture(scope="session")
def servers() -> Servers:
    """The infrastructure that these tests may break."""
    return Servers(
        os.environ["VAJ_TEST_DATABASE_ADMIN_URL"], os.environ["VAJ_TEST_BROKER_URL"], os.environ["VAJ_TEST_REDIS_URL"]
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def databases(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mapping[str, str]]:
    """A migrated database per side, and the topology."""
    async with made_databases(servers, tmp_path_factory.mktemp("databases")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def rig(
    servers: Servers, databases: Mapping[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Rig]:
    """Emptied databases and queues, no process yet."""
    async with opened_rig(servers, databases, tmp_path) as opened:
        yield opened
        if opened.verdict is not None:
            request.node.user_properties.append((LEDGER, opened.verdict.counts()))


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Have this said of the test at the end, where others have their ledger's counts."""
    return lambda said: request.node.user_properties.append((LEDGER, said))


@dataclass
class Told:
    """How a test went."""

    fault: str
    outcome: str = "passed"
    seconds: float = 0.0
    ledger: str = ""


_TOLD: dict[str, Told] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("fault")
        if marker is not None:
            item.user_properties.append((FAULT, marker.args[0]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    properties = dict(report.user_properties)
    if FAULT not in properties:
        return
    told = _TOLD.setdefault(report.nodeid, Told(str(properties[FAULT])))
    told.seconds += report.duration
    told.ledger = str(properties.get(LEDGER, ""))
    if not report.passed:
        told.outcome = report.outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Each fault by its name, with the tests that stand for it and what their ledgers came to."""
    for fault in dict.fromkeys(told.fault for told in _TOLD.values()):
        terminalreporter.section(fault, sep="-")
        for node, told in _TOLD.items():
            if told.fault == fault:
                name = node.rpartition("::")[2]
                terminalreporter.line(f"{told.outcome:7} {told.seconds:5.1f} s  {name}")
                terminalreporter.line(f"{'':17}{told.ledger or 'no ledger'}")
