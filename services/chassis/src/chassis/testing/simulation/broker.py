"""RabbitMQ as far as the logic relies on it: quorum queues, redelivery with a count, confirms, the retry ladder."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from chassis.broker import BrokerUnavailable, Incoming, Outgoing, PublishRefused
from chassis.confirms import Answer
from chassis.testing.simulation.world import Process, World

CHANNELS = 2  # of a publishing connection
CONFIRM_TIMEOUT_S = 1.0
RECONNECT_S = (0.02, 0.3)
NOTICED_S = (0.001, 1.0)  # how long either side takes to see that a connection is gone
HEARTBEATS_MISSED_S = 2.0
STEP_S = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)  # what the steps of the retry ladder take here


@dataclass(slots=True, eq=False)
class Message:
    """One copy in one queue."""

    id: str
    key: str
    body: bytes
    headers: Mapping[str, Any]
    routed: bool  # by a topic exchange: nobody sent it to this queue by name
    returns: int = 0

    def incoming(self, tag: int) -> Incoming:
        """As a consumer gets it."""
        returned = {"x-delivery-count": self.returns} if self.returns else {}
        return Incoming(tag, self.id, self.key, self.body, {**self.headers, **returned})


@dataclass
class Queue:
    """Messages in order, and who takes them in turns. With `step_s` nobody does: each goes home after that time."""

    name: str
    step_s: float | None = None
    limit: int | None = None  # of returns
    ready: deque[Message] = field(default_factory=deque)
    channels: list[Channel] = field(default_factory=list)
    turn: int = 0
    loses_next: bool = False

    def gives_up(self, message: Message) -> bool:
        """It came back too often."""
        return self.limit is not None and message.returns > self.limit

    def size(self) -> int:
        """Ready and unacknowledged."""
        return len(self.ready) + sum(len(channel.unacked) for channel in self.channels)


class Channel:
    """A consumer's channel. Both ends may think it open while it is not, for a while."""

    def __init__(self, broker: Broker, process: Process, queue: Queue, prefetch: int) -> None:
        self.process = process
        self.queue = queue
        self.prefetch = prefetch
        self.unacked: dict[int, Message] = {}
        self.arrived: asyncio.Queue[Incoming] = asyncio.Queue()
        self.lost = asyncio.Event()
        self.open = True  # at the broker
        self.cut = False
        self.silenced = False
        self.tag = 0
        self.arrives_at = 0.0
        self._broker = broker

    async def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Sent; nobody says that it arrived."""
        self.process.must_live()
        if self.lost.is_set():
            raise ConnectionError("the channel is closed")
        world = self._broker.world
        world.loop.happen(world.flight(), self._broker.acked, self, delivery_tag, multiple)

    def arrive(self, incoming: Incoming) -> None:
        """At the consumer."""
        if not self.cut:
            self.arrived.put_nowait(incoming)


class Broker:
    """The server."""

    def __init__(self, world: World, *, dead: str) -> None:
        self.world = world
        self.down = False
        self._up_at = 0.0
        self.blocked_until = 0.0
        self.refuses_until = 0.0
        self.queues: dict[str, Queue] = {}
        self.channels: list[Channel] = []
        self.links: list[Link] = []
        self._bindings: list[tuple[str, str, str]] = []
        self._routes: dict[tuple[str, str], list[Queue]] = {}
        self._dead = dead

    def refuses(self, now: float) -> bool:
        """For a while it takes nothing."""
        return now < self.refuses_until and not self.world.calm

    def declare(
        self, name: str, bindings: Iterable[tuple[str, str]] = (), *, step_s: float | None = None,
        limit: int | None = None,
    ) -> None:  # fmt: skip
        """A queue, bound to (exchange, pattern)."""
        self.queues[name] = Queue(name, step_s, limit)
        self._bindings += [(exchange, pattern, name) for exchange, pattern in bindings]

    def put(self, exchange: str, key: str, message_id: str, body: bytes, headers: Mapping[str, Any]) -> bool:
        """Whether there was a queue for it."""
        queues = self._route(exchange, key)
        routed = exchange.startswith("evt.")
        for queue in queues:
            self._enqueue(queue, Message(message_id, key, body, headers, routed))
        return bool(queues)

    def _route(self, exchange: str, key: str) -> list[Queue]:
        if exchange == "":
            return [self.queues[key]] if key in self.queues else []
        found = self._routes.get((exchange, key))
        if found is None:
            names = [name for source, pattern, name in self._bindings
                     if source == exchange and (pattern == "" or fnmatchcase(key, pattern))]  # fmt: skip
            found = self._routes[exchange, key] = [self.queues[name] for name in dict.fromkeys(names)]
        return found

    def _enqueue(self, queue: Queue, message: Message) -> None:
        if queue.loses_next and message.routed and not self.world.calm:
            queue.loses_next = False
            self.world.note("{} is lost in {}", message.id, queue.name)
            return
        queue.ready.append(message)
        if queue.step_s is not None:
            self.world.loop.happen(queue.step_s, self._go_home, queue, message)
        else:
            self.pump(queue)

    def _go_home(self, queue: Queue, message: Message) -> None:
        queue.ready.remove(message)
        home = self.queues[message.key]
        for _ in range(2 if self.world.chance(self.world.weather.doubled) else 1):
            self._enqueue(home, Message(message.id, message.key, message.body, message.headers, routed=False))

    def consume(self, process: Process, name: str, prefetch: int) -> Channel:
        """A new channel; ConnectionError while the broker is away."""
        if self.down:
            raise ConnectionError("the broker is down")
        channel = Channel(self, process, self.queues[name], prefetch)
        channel.queue.channels.append(channel)
        self.channels.append(channel)
        self.pump(channel.queue)
        return channel

    def pump(self, queue: Queue) -> None:
        """Deliver what consumers may take, one each in turns."""
        world, idle = self.world, 0
        while queue.ready and idle < len(queue.channels):
            channel = queue.channels[queue.turn % len(queue.channels)]
            queue.turn += 1
            if channel.silenced or len(channel.unacked) >= channel.prefetch:
                idle += 1
                continue
            idle = 0
            channel.tag += 1
            message = channel.unacked[channel.tag] = queue.ready.popleft()
            channel.arrives_at = max(channel.arrives_at, world.loop.time() + world.flight())
            world.loop.happen_at(channel.arrives_at, channel.arrive, message.incoming(channel.tag))

    def acked(self, channel: Channel, tag: int, multiple: bool) -> None:
        """The acknowledgement arrived."""
        if channel.cut or not channel.open:
            return
        tags = [known for known in channel.unacked if known == tag or (multiple and known < tag)]
        for known in tags:
            del channel.unacked[known]
        self.pump(channel.queue)

    def cut(self, channel: Channel, *, noticed_s: float | None = None) -> None:
        """Nothing passes any more, which both ends notice, each in its time."""
        if channel.cut:
            return
        channel.cut = True
        world = self.world
        for notice in (lambda: self._requeue(channel), channel.lost.set):
            world.loop.happen(world.random.uniform(*NOTICED_S) if noticed_s is None else noticed_s, notice)

    def _requeue(self, channel: Channel) -> None:
        """What was not acknowledged is first again, in its order; what came back too often goes to the dead."""
        if not channel.open:
            return
        channel.open = False
        self.channels.remove(channel)
        queue = channel.queue
        queue.channels.remove(channel)
        back = list(channel.unacked.values())
        channel.unacked.clear()
        for message in reversed(back):
            message.returns += 1
            if not queue.gives_up(message):
                queue.ready.appendleft(message)
        for message in back:
            if queue.gives_up(message):
                self._die(queue, message)
        self.pump(queue)

    def _die(self, queue: Queue, message: Message) -> None:
        self.world.note("the broker gives up {} in {}", message.id, queue.name)
        death = {"queue": queue.name, "reason": "delivery_limit"}
        headers = {**message.headers, "x-death": [death]}
        self._enqueue(self.queues[self._dead], replace(message, headers=headers, routed=False, returns=0))

    def lose(self, name: str, pick: int) -> None:
        """A message that came through an exchange is gone, or the next one will be: what should never happen, and has."""
        queue = self.queues[name]
        victims = [message for message in queue.ready if message.routed and not message.returns]
        if not victims:
            queue.loses_next = True
            return
        victim = victims[pick % len(victims)]
        queue.ready.remove(victim)
        self.world.note("{} is lost in {}", victim.id, name)

    def go_down(self, seconds: float) -> None:
        """As with a restart: connections are gone, messages stay."""
        self.world.note("the broker is down for {:.3f} s", seconds)
        self.down = True
        self._up_at = max(self._up_at, self.world.loop.time() + seconds)
        for channel in self.channels[:]:
            self.cut(channel, noticed_s=0.001)
        for link in self.links[:]:
            link.cut(noticed_s=0.001)
        self.world.loop.happen(seconds, self.come_up)

    def come_up(self) -> None:
        """As before, unless it went down again meanwhile."""
        self.down = self.world.loop.time() < self._up_at and not self.world.calm

    def cut_consumers(self, process: Process) -> None:
        """The connection on which a process consumes: all its channels."""
        for channel in [channel for channel in self.channels if channel.process is process]:
            self.cut(channel)

    def client_died(self, process: Process) -> None:
        """Its sockets close."""
        for channel in [channel for channel in self.channels if channel.process is process]:
            self.world.loop.happen(self.world.flight(), self._requeue, channel)
            channel.cut = self.world.random.random() < 0.5  # else what was sent still arrives
        for link in [link for link in self.links if link.process is process]:
            link.cut(noticed_s=0.0, flushed=self.world.random.random() < 0.5)

    def missed_heartbeats(self, process: Process) -> None:
        """A client that is silent for too long is cut off."""
        if process.alive and process.stopped:
            self.cut_consumers(process)
            for link in [link for link in self.links if link.process is process]:
                link.cut()


class Link:
    """A publishing connection."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self.process = process
        self.lost = asyncio.Event()
        self.broken = False  # nothing that is on the way arrives
        self.waiting: list[Batch] = []
        self._broker = broker
        broker.links.append(self)

    def cut(self, *, noticed_s: float | None = None, flushed: bool = False) -> None:
        """Nothing passes any more; with `flushed`, what was sent still does."""
        world = self._broker.world
        self.broken = not flushed
        if self in self._broker.links:
            self._broker.links.remove(self)
        world.loop.happen(world.random.uniform(*NOTICED_S) if noticed_s is None else noticed_s, self._notice)

    def _notice(self) -> None:
        self.lost.set()
        for batch in self.waiting[:]:
            batch.close()


class Batch:
    """Messages of one call, and what became of each."""

    def __init__(self, link: Link, messages: Sequence[Outgoing]) -> None:
        self.link = link
        self.messages = messages
        self.answers: list[Answer] = [BrokerUnavailable("no confirm") for _ in messages]
        self.missing = len(messages)
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        link.waiting.append(self)

    def settle(self, answered: Sequence[tuple[int, Answer]]) -> None:
        """Confirms arrived."""
        if self not in self.link.waiting:
            return
        for index, answer in answered:
            self.answers[index] = answer
        self.missing -= len(answered)
        if not self.missing:
            self.close()

    def close(self) -> None:
        """Nothing more will be known."""
        if self in self.link.waiting:
            self.link.waiting.remove(self)
        if not self.complete.done():
            self.complete.set_result(None)


class SimulatedPublisher:
    """`chassis.broker.Publisher`."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self.ready = asyncio.Event()
        self._broker = broker
        self._world = broker.world
        self._process = process
        self._link: Link | None = None

    async def run(self) -> None:
        """Stay connected until killed."""
        while True:
            if not self._broker.down:
                self._link = Link(self._broker, self._process)
                self.ready.set()
                await self._link.lost.wait()
                self.ready.clear()
                self._link = None
            await asyncio.sleep(self._world.random.uniform(*RECONNECT_S))

    async def publish(self, message: Outgoing) -> None:
        [answer] = await self.publish_all([message])
        if answer is not None:
            raise answer

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[Answer]:
        self._process.must_live()
        link = self._link
        if link is None or link.lost.is_set():
            return [BrokerUnavailable() for _ in messages]
        batch = Batch(link, messages)
        slots: dict[int, list[int]] = {}
        for index, message in enumerate(messages):
            slots.setdefault(message.slot % CHANNELS, []).append(index)
        for indexes in slots.values():
            self._world.loop.happen(self._under_way(), self._arrive, batch, indexes)
        self._world.loop.happen(CONFIRM_TIMEOUT_S, self._overdue, batch)
        await batch.complete
        return batch.answers

    def _under_way(self) -> float:
        return self._world.flight() + max(0.0, self._broker.blocked_until - self._world.loop.time())

    def _arrive(self, batch: Batch, indexes: Sequence[int]) -> None:
        """At the broker, or only the first of them when the connection broke meanwhile."""
        world, link = self._world, batch.link
        count = world.random.randint(0, len(indexes)) if link.broken else len(indexes)
        if self._broker.down:
            count = 0
        answered = [(index, self._take(batch.messages[index])) for index in indexes[:count]]
        if not link.broken:
            late = CONFIRM_TIMEOUT_S if world.chance(world.weather.late_confirm) else 0.0
            world.loop.happen(world.flight() + late, batch.settle, answered)

    def _take(self, message: Outgoing) -> Answer:
        world, broker, place = self._world, self._broker, message.exchange or message.routing_key
        refused = world.chance(world.weather.nack) or broker.refuses(world.loop.time())
        if refused and world.random.random() < 0.5:  # else one queue had no room, and the others have it all the same
            world.note("{} is refused for {}", message.message_id, place)
            return PublishRefused("nack")
        if not broker.put(message.exchange, message.routing_key, message.message_id, message.body, message.headers):
            return PublishRefused("unroutable")
        world.note("{} is {} {}", message.message_id, "refused, yet in" if refused else "taken for", place)
        return PublishRefused("nack") if refused else None

    def _overdue(self, batch: Batch) -> None:
        """A confirm this late means the channel is lost, and with it the connection."""
        if batch in batch.link.waiting:
            batch.link.cut(noticed_s=0.0)
