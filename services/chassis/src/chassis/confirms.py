"""Many messages on a confirm channel at once: one write, one wait, an answer for each.

What aiormq does per message (a task, two timeouts, a lock, two futures, a drain) is done here per batch, with its own
channel, frames and confirmations. On such a channel nothing may be published in another way.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

import aiormq
import pamqp.frame
from aiormq.abc import ChannelFrame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

CONFIRM_TIMEOUT_S = 10  # a confirm this late means the channel is lost
WRITE_MESSAGES = 100  # in one write: the broker works on the first while the next are made
_ID = "." * 36  # the length of every UUID
_SIZE_AT = slice(11, 19)  # where a content header has the body's size: after frame header, class and weight


class BrokerUnavailable(Exception):
    """There is no connection to the broker now, or it did not answer in time: whether it has the message is unknown."""


class PublishRefused(Exception):
    """The broker did not take the message: nacked, unroutable, or nothing that can be sent."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message ready to send; `slot` pins it to a channel, so that messages of one slot keep their order."""

    exchange: str
    routing_key: str
    message_id: str
    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    slot: int = 0


Answer = PublishRefused | BrokerUnavailable | None  # None: the broker has it safe


class ConfirmChannel:
    """Publishes on one channel, in the order of the calls."""

    def __init__(self, channel: aiormq.abc.AbstractChannel) -> None:
        self._channel = cast("aiormq.Channel", channel)
        self._order = asyncio.Lock()
        self._waiting: set[_Batch] = set()
        self._channel.closing.add_done_callback(self._lost)

    async def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """An answer for each message, in order, when all are known; late ones close the channel."""
        batch = _Batch(len(messages))
        self._waiting.add(batch)
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_S):
                async with self._order:
                    await self._write(messages, batch)
                await batch.complete
        except TimeoutError:
            batch.close(BrokerUnavailable("no confirm in time"))
            with contextlib.suppress(Exception):
                await self._channel.close()
        finally:
            self._waiting.discard(batch)
        return batch.answers

    async def _write(self, messages: Sequence[Outgoing], batch: _Batch) -> None:
        channel, now = self._channel, datetime.now(UTC).replace(microsecond=0)
        for start in range(0, len(messages), WRITE_MESSAGES):
            frames: list[bytes] = []
            written: list[int] = []
            for index in range(start, min(start + WRITE_MESSAGES, len(messages))):
                try:
                    frames += _frames(messages[index], channel.number, channel.max_content_size, now)
                    written.append(index)
                except (ValueError, TypeError, struct.error) as error:
                    batch.settle(index, PublishRefused(repr(error)))
            if channel.is_closed:
                return batch.close(BrokerUnavailable("the channel is closed"))
            await channel.write_queue.put(ChannelFrame(payload=b"".join(frames), should_close=False))
            # The queue takes or refuses the frames as a whole, and nothing is awaited until their numbers are given:
            # no confirm can come before, and a cancelled wait leaves no number without a message.
            for index in written:
                channel.delivery_tag += 1
                message_id = messages[index].message_id
                channel.message_id_delivery_tag[message_id] = channel.delivery_tag
                pending = _Pending(batch, index, channel, message_id)
                channel.confirmations[channel.delivery_tag] = cast("Any", pending)
        return None

    def _lost(self, closing: asyncio.Future[Any]) -> None:
        reason = None if closing.cancelled() else closing.exception()
        for batch in self._waiting:
            batch.close(BrokerUnavailable(repr(reason)))


class _Batch:
    """The answers of one call; `complete` when none is missing."""

    def __init__(self, size: int) -> None:
        self.answers: list[Answer] = [None] * size
        self.known = [False] * size
        self._missing = size
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not size:
            self.complete.set_result(None)

    def settle(self, index: int, answer: Answer) -> None:
        """The first answer to a message counts."""
        if self.known[index]:
            return
        self.known[index] = True
        self.answers[index] = answer
        self._missing -= 1
        if not self._missing and not self.complete.done():
            self.complete.set_result(None)

    def close(self, answer: Answer) -> None:
        """The same answer for all that have none."""
        for index, known in enumerate(self.known):
            if not known:
                self.settle(index, answer)


class _Pending:
    """What aiormq keeps per unconfirmed message; as much of a future as its channel uses."""

    __slots__ = ("_batch", "_channel", "_index", "_message_id")

    def __init__(self, batch: _Batch, index: int, channel: aiormq.Channel, message_id: str) -> None:
        self._batch = batch
        self._index = index
        self._channel = channel
        self._message_id = message_id

    def done(self) -> bool:
        return self._batch.known[self._index]

    def cancelled(self) -> bool:
        return self.done()  # answered without the broker: its late word is not worth a warning

    def set_result(self, _: object) -> None:
        self._answer(None)

    def set_exception(self, error: BaseException) -> None:
        self._answer(PublishRefused(repr(error)))

    def _answer(self, answer: Answer) -> None:
        self._channel.message_id_delivery_tag.pop(self._message_id, None)
        self._batch.settle(self._index, answer)


def _frames(message: Outgoing, number: int, content_max: int, now: datetime) -> list[bytes]:
    body = message.body
    head = _method_frame(number, message.exchange, message.routing_key)
    if message.headers or len(message.message_id) != len(_ID) or not message.message_id.isascii():
        header = _header_frame(number, message.message_id, now, message.headers, len(body))
    else:
        start, middle, end = _header_template(number, now)
        header = b"".join((start, len(body).to_bytes(8, "big"), middle, message.message_id.encode(), end))
    parts = [pamqp.frame.marshal(ContentBody(body[at : at + content_max]), number)
             for at in range(0, len(body), content_max)]  # fmt: skip
    return [head, header, *parts]


@lru_cache(maxsize=1024)
def _method_frame(number: int, exchange: str, routing_key: str) -> bytes:
    if len(routing_key.encode()) > 255:
        raise ValueError("the routing key is longer than 255 bytes")
    frame = aiormq.spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=True)
    return pamqp.frame.marshal(frame, number)


def _header_frame(number: int, message_id: str, now: datetime, headers: Mapping[str, Any], size: int) -> bytes:
    properties = aiormq.spec.Basic.Properties(
        delivery_mode=2,
        message_id=message_id,
        content_type="application/cloudevents+json",
        timestamp=now,
        headers=dict(headers),
    )
    return pamqp.frame.marshal(ContentHeader(properties=properties, body_size=size), number)


@lru_cache(maxsize=64)
def _header_template(number: int, now: datetime) -> tuple[bytes, bytes, bytes]:
    """A header without headers differs by the body's size and the id only, both of fixed width."""
    before, _, after = _header_frame(number, _ID, now, {}, 0).partition(_ID.encode())
    return before[: _SIZE_AT.start], before[_SIZE_AT.stop :], after
