"""Endpoints' secrets: sealed for the database, opened to sign, and the public keys that go with them."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

from chassis.idempotency import Vault
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from webhooks.domain import Endpoint, SigningSecret
from webhooks.signing import SigningKey, key_pair_of

_PURPOSE = "webhooks"


class Keyring:
    """Made from the service's secret key: with it lost or another, no sealed secret can be opened any more."""

    def __init__(self, service_secret: bytes) -> None:
        self._service_secret = service_secret
        self._vault = Vault(service_secret, _PURPOSE)

    def seal(self, key: bytes) -> str:
        """A secret in the form in which it may lie in the database."""
        return base64.b64encode(self._vault.seal(key)).decode("ascii")

    def open(self, secret: SigningSecret) -> bytes:
        """A secret in clear: keep it in memory only."""
        return self._vault.open(base64.b64decode(secret.sealed))

    def pair(self, endpoint_id: UUID, secret: SigningSecret) -> Ed25519PrivateKey:
        """The key pair that goes with a secret; it is stored nowhere."""
        return key_pair_of(self.open(secret), endpoint_id, self._service_secret)

    def signing_keys(self, endpoint: Endpoint) -> tuple[tuple[SigningKey, datetime | None], ...]:
        """What signs, each until when: secrets newest first, then their pairs if the endpoint asked for them."""
        return (*self._secrets(endpoint), *self._pairs(endpoint))

    def _secrets(self, endpoint: Endpoint) -> Iterator[tuple[SigningKey, datetime | None]]:
        return ((self.open(secret), secret.expires_at) for secret in endpoint.secrets)

    def _pairs(self, endpoint: Endpoint) -> Iterator[tuple[SigningKey, datetime | None]]:
        secrets = endpoint.secrets if endpoint.settings.ed25519 else ()
        return ((self.pair(endpoint.id, secret), secret.expires_at) for secret in secrets)
