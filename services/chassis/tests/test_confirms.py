"""A batch on the wire: an answer for each message, in order, whatever becomes of its neighbours."""

from __future__ import annotations

from chassis.broker import Outgoing, Publisher, PublishRefused
from chassis.kernel import new_id

KEY = "endpoint.test.v1"


async def test_each_message_of_a_batch_has_its_own_answer(
    publisher: Publisher, declared: None, broker_url: str
) -> None:
    """Unroutable and unsendable ones are refused; the others, small, large, empty or with headers, arrive as they were sent."""
    sent = {str(new_id()): body for body in (b"small", b"", b"x" * 400_000)}
    good = [Outgoing("evt.webhooks", KEY, message_id, body) for message_id, body in sent.items()]
    odd = Outgoing("evt.webhooks", KEY, "short-id", b"odd", {"x-attempt": 2})
    unroutable = Outgoing("evt.webhooks", "nobody.binds.v1", str(new_id()), b"lost")
    unsendable = Outgoing("evt.webhooks", "k" * 300, str(new_id()), b"never")

    answers = await publisher.publish_all([good[0], unroutable, good[1], unsendable, good[2], odd])

    assert [type(answer) for answer in answers] == [
        type(None), PublishRefused, type(None), PublishRefused, type(None), type(None),
    ]  # fmt: skip


async def test_nothing_is_kept_of_what_was_answered(publisher: Publisher, declared: None) -> None:
    """After a thousand messages the channels hold no unconfirmed one and no id."""
    messages = [Outgoing("evt.webhooks", KEY, str(new_id()), b"{}", slot=slot) for slot in range(1_000)]

    assert await publisher.publish_all(messages) == [None] * 1_000

    for channel in publisher._channels:
        assert not channel._channel.confirmations
        assert not channel._channel.message_id_delivery_tag
