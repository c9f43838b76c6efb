"""Ways to reach a person, behind one protocol: a channel sends one message or says whether trying again helps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from notifications.rendering import Rendered


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """One message for one person; `recipient` is what the channel addresses (an e-mail address, a user id)."""

    message_id: UUID
    recipient: str
    rendered: Rendered
    unsubscribe_url: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """The message was accepted; `reference` finds it again at the provider."""

    reference: str


class ChannelError(Exception):
    """The message was not accepted; `code` is a stable word, the text holds no personal data."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class Transient(ChannelError):
    """Trying again later may help."""


class Permanent(ChannelError):
    """Trying again cannot help: this message to this recipient is over."""


class Channel(Protocol):
    """One way to reach people."""

    @property
    def name(self) -> str:
        """The word that stands for it in tables and preferences."""
        ...

    async def send(self, message: OutgoingMessage) -> Sent:
        """Send once; raises Transient or Permanent. The same message id twice is recognisable at the receiver."""
        ...
