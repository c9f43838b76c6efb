"""Faults of the network between a process and its servers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from chassis.testing.links import Link
from chassis.testing.rig import Rig

# The real ones are 10 and 15 s: what is seen after them is the same, and seen sooner.
SHORT_TIMEOUTS = {
    "chassis.broker.HEARTBEAT_S": 2,
    "chassis.confirms.CONFIRM_TIMEOUT_S": 3,
    "chassis.database.COMMAND_TIMEOUT_S": 2,
}


class Linked:
    """Both sides with every server behind a link of its own."""

    def __init__(self, rig: Rig) -> None:
        broker, urls = rig.servers.broker_url, rig.database_urls
        self.rig = rig
        self.broker = {side: Link(broker) for side in urls}
        self.database = {side: Link(url) for side, url in urls.items()}

    @property
    def all(self) -> list[Link]:
        return [*self.broker.values(), *self.database.values()]

    async def start(self) -> Any:
        """A producer and two workers; returns the producer."""
        for link in self.all:
            await link.accept()
        made = [
            self.rig.started(side, broker_url=self.broker[side].url, database_url=self.database[side].url)
            for side in ("producer", "consumer", "consumer")
        ]
        return (await asyncio.gather(*made))[0]

    async def stop(self) -> None:
        for link in self.all:
            await link.refuse()


@pytest.fixture
async def linked(rig: Rig) -> Any:
    rig.constants |= SHORT_TIMEOUTS
    made = Linked(rig)
    yield made
    await made.stop()


@pytest.mark.fault("TCP cut and half-open connection")
@pytest.mark.parametrize("rounds", [1, pytest.param(10, marks=pytest.mark.slow)])
async def test_every_link_is_cut_again_and_again(rig: Rig, linked: Linked, rounds: int) -> None:
    """Connections to broker and database of both sides are reset while events flow."""
    producer = await linked.start()
    writer = await rig.started("producer", "api")
    connections = [link.opened for link in linked.all]
    for number in range(rounds):
        for link in linked.all:
            await rig.append(writer, 10, events=5)
            await rig.until_applied("any", (number * len(linked.all)) * 50)
            link.cut()

    verdict = await rig.at_rest(timeout_s=90)

    assert producer.exit_code == 0
    assert all(link.opened > before for link, before in zip(linked.all, connections, strict=True))
    assert verdict.sent == rounds * len(linked.all) * 50


@pytest.mark.fault("TCP cut and half-open connection")
@pytest.mark.slow
@pytest.mark.parametrize("which", ["broker", "database"])
@pytest.mark.parametrize("side", ["producer", "consumer"])
async def test_a_link_goes_silent(rig: Rig, linked: Linked, which: str, side: str) -> None:
    """Connections stay open and nothing arrives any more: that is noticed by itself, in the same process."""
    await linked.start()
    writer = await rig.started("producer", "api")
    await rig.append(writer, 10, events=5)
    await rig.until_applied("gated", 50)

    link: Link = getattr(linked, which)[side]
    connections = link.opened
    link.silence()
    await rig.append(writer, 10, events=5)
    verdict = await rig.at_rest(timeout_s=90)

    assert verdict.sent == 100
    assert link.opened > connections


@pytest.mark.slow
@pytest.mark.fault("TCP cut and half-open connection")
async def test_confirms_and_acknowledgements_are_lost(rig: Rig, linked: Linked, broker: Any) -> None:
    """One direction alone goes silent: what was done is not known to be done, and is not done again."""
    await linked.start()
    writer = await rig.started("producer", "api")
    linked.broker["producer"].silence(to_server=False)
    linked.broker["consumer"].silence(to_client=False)

    await rig.append(writer, 20, events=5)
    await broker.emptied()
    verdict = await rig.at_rest(timeout_s=90)

    assert verdict.sent == 100


@pytest.mark.slow
@pytest.mark.fault("TCP cut and half-open connection")
async def test_narrow_and_slow_links(rig: Rig, linked: Linked) -> None:
    """Links with 100 ms of delay and 200 kB/s make it slow, and nothing else."""
    await linked.start()
    writer = await rig.started("producer", "api")
    for link in linked.broker.values():
        link.delay_s, link.bytes_per_s = 0.1, 200_000

    await rig.append(writer, 20, events=10)
    verdict = await rig.at_rest(timeout_s=90)

    assert verdict.sent == 200
