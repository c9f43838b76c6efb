"""The plan of a delivery asks batches for holds: answers that come twice, or when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aio_pika
import pytest

from contracts import topology

REPEATS = 3
people = importlib.import_module("people")
eventually = people.eventually
pytestmark = [pytest.mark.whole_stack, pytest.mark.fault("duplicate and late saga replies")]


class Wire:
    """Everything deliveries and batches tell each other, to be told again."""

    def __init__(self, channel: aio_pika.abc.AbstractChannel) -> None:
        self._channel = channel
        self.heard: list[aio_pika.abc.AbstractIncomingMessage] = []

    async def listen(self) -> None:
        queue = await self._channel.declare_queue(exclusive=True)
        for service in ("batches", "deliveries"):
            await queue.bind(topology.exchange(service), "#")
        await queue.consume(self._keep, no_ack=True)

    async def _keep(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        self.heard.append(message)

    def of(self, routing_key: str, delivery_id: str) -> list[aio_pika.abc.AbstractIncomingMessage]:
        """The facts of one kind about one delivery, repeats included."""
        told = [message for message in self.heard if message.routing_key == routing_key]
        return [message for message in told if json.loads(message.body)["data"].get("delivery_id") == delivery_id]

    async def repeat(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        """The same message once more, to everybody."""
        exchange = await self._channel.get_exchange(message.exchange or "")
        copy = aio_pika.Message(message.body, message_id=message.message_id, delivery_mode=2)
        await exchange.publish(copy, message.routing_key or "")


@pytest.fixture
async def wire(settings: dict[str, str]) -> AsyncIterator[Wire]:
    async with await aio_pika.connect(settings["VAJ_BROKER_URL"]) as connection:
        made = Wire(await connection.channel())
        await made.listen()
        yield made


async def test_every_word_of_a_plan_is_said_again_and_again(
    town: Any, wire: Wire, settings: dict[str, str], tell: Callable[[str], None]
) -> None:
    """The request for holds and its answer come four times each, some after the goods are on their way: one hold, one opening."""
    batch = await town.batch(40)
    delivery = await town.delivery(batch, 15)
    key = ("delivery.planned.v1", "batch.held.v1")

    for _ in range(REPEATS):
        for routing_key in key:
            await wire.repeat(wire.of(routing_key, delivery["id"])[0])
    assert await _quantities(town, batch) == (25, 15, 0)
    await town.carry(delivery)
    for routing_key in key:
        await wire.repeat(wire.of(routing_key, delivery["id"])[0])

    await eventually(lambda: _settled(town, batch, (25, 0, 15)))
    assert (await town.shelter.get(f"/v1/deliveries/{delivery['id']}"))["status"] == "delivered"
    assert len(wire.of("delivery.opened.v1", delivery["id"])) == 1
    tell(await people.reconciled(settings))


async def test_an_answer_that_comes_too_late_holds_nothing(
    town: Any, stack: Any, wire: Wire, settings: dict[str, str], tell: Callable[[str], None]
) -> None:
    """While batches is away a plan is made and given up; back again it answers both, and nothing stays held."""
    batch = await town.batch(40)
    await eventually(lambda: _settled(town, batch, (40, 0, 0)))
    body = {"receiving_place_id": town.receiving_place, "lines": [{"batch_id": batch["id"], "quantity": 15}]}
    await asyncio.to_thread(stack.stop, "batches")
    try:
        planned = await town.shelter.post_soon("/v1/deliveries", body)
        await town.shelter.post(f"/v1/deliveries/{planned['id']}/cancel", {"reason": "we have enough"})
    finally:
        await asyncio.to_thread(stack.start, "batches")

    await eventually(lambda: wire.of("batch.hold_released.v1", planned["id"]), timeout_s=30)
    await wire.repeat(wire.of("batch.held.v1", planned["id"])[0])
    await eventually(lambda: _settled(town, batch, (40, 0, 0)))
    assert (await town.shelter.get(f"/v1/deliveries/{planned['id']}"))["status"] == "cancelled"
    assert wire.of("delivery.opened.v1", planned["id"]) == []
    tell(await people.reconciled(settings))


async def _quantities(town: Any, batch: Any) -> tuple[int, int, int]:
    found = (await town.provider.get(f"/v1/batches/{batch['id']}"))["quantities"]
    return found["available"], found["held"], found["delivered"]


async def _settled(town: Any, batch: Any, expected: tuple[int, int, int]) -> None:
    assert await _quantities(town, batch) == expected
