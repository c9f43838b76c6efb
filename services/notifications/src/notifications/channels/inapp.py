"""The inbox inside the apps: the stored notification is the delivery."""

from __future__ import annotations

from notifications.channels import OutgoingMessage, Sent


class InAppChannel:
    """Accepts every message: it is already in the inbox when it is sent."""

    name = "in_app"

    async def send(self, message: OutgoingMessage) -> Sent:
        """The message itself is the reference."""
        return Sent(str(message.message_id))
