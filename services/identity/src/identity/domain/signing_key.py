"""The signing key: its public half; the private one lies encrypted in a row of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from chassis.kernel import Aggregate

from identity.domain import facts
from identity.domain.terms import SigningKeyId


@dataclass
class SigningKey(Aggregate):
    """A key pair that access tokens are signed with."""

    key_id: str = ""
    jwk: dict[str, str] = field(default_factory=dict)
    published_at: datetime | None = None

    @classmethod
    def publish(cls, signing_key_id: SigningKeyId, *, jwk: dict[str, str], now: datetime) -> Self:
        """Tell the world the public half; `jwk` carries its `kid`."""
        key = cls(id=signing_key_id)
        key.record(facts.SigningKeyPublished(key_id=jwk["kid"], jwk=jwk, published_at=now))
        return key

    def _on_SigningKeyPublished(self, event: facts.SigningKeyPublished) -> None:  # noqa: N802
        self.key_id, self.jwk, self.published_at = event.key_id, event.jwk, event.published_at
