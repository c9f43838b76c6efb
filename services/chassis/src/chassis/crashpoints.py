"""Places where a crash would hurt most, by name. In production they are nothing; tests make a process die there."""

from __future__ import annotations

from collections.abc import Callable

NAMES = frozenset(
    {
        "command.committed",  # the transaction of a command, its outbox rows included, is committed
        "outbox.read",  # the relay has rows in hand, none is published
        "outbox.confirmed",  # the broker has them, none is deleted
        "consumer.handled",  # the handlers ran, nothing is committed
        "consumer.committed",  # the effect is committed, nothing is acknowledged
        "consumer.retry_noted",  # it is noted that the message waits in the ladder, where it is not yet
        "consumer.retry_published",  # the copy is in the retry ladder, the original is not acknowledged
        "consumer.parked",  # a message that came too early is parked, not acknowledged
        "deadletter.kept",  # the dead letter is committed, the message is not acknowledged
        "redrive.batch",  # a batch of a redrive is committed
        "timer.handled",  # a timer's handler ran, nothing is committed
        "replay.page",  # a page of a replay is published, its position is not kept
        "projection.switched",  # the rebuilt projection is the live one, the old one is still there
    }
)

_hook: Callable[[str], None] | None = None


def reached(name: str) -> None:
    """Pass the place `name`."""
    if _hook is not None:
        _hook(name)


def install(hook: Callable[[str], None] | None) -> None:
    """Have `hook` called at every place; for tests only."""
    global _hook  # noqa: PLW0603 - one per process, like the crash itself
    _hook = hook
