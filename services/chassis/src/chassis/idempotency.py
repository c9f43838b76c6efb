"""Idempotency keys: the first answer is kept, encrypted, in the transaction of its effect, and given again for 24 h."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from chassis.database import Transaction
from chassis.kernel import BadRequest, Conflict, Invalid

KEPT_H = 24
HEADERS_KEPT = ("content-type", "etag", "location", "cache-control")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class IdempotencyKeyInvalid(BadRequest):
    """The header is empty, too long or not visible ASCII."""

    slug = "idempotency-key-invalid"


class IdempotencyKeyReused(Invalid):
    """The key was used with another body."""

    slug = "idempotency-key-reused"


class IdempotencyKeyTaken(Conflict):
    """Another request with this key was first; nothing of this one happened, and the kept answer is the answer."""

    slug = "idempotency-key-taken"


class IdempotencyInProgress(Conflict):
    """The first request with this key is still running."""

    slug = "idempotency-in-progress"


@dataclass(frozen=True)
class Answer:
    """A stored response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Vault:
    """Encrypts what must not lie in the database in clear (AES-256-GCM, a fresh nonce each)."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        self._cipher = AESGCM(hashlib.sha256(purpose.encode() + b"\0" + secret).digest())

    def seal(self, data: bytes) -> bytes:
        """Clear → nonce and ciphertext."""
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, data, None)

    def open(self, sealed: bytes) -> bytes:
        """Nonce and ciphertext → clear; raises InvalidTag for anything altered."""
        return self._cipher.decrypt(sealed[:12], sealed[12:], None)


def secret_bytes(secret_key: str) -> bytes:
    """The setting `secret_key` as bytes; raises ValueError when it is not 32 bytes of URL-safe base64."""
    raw = base64.urlsafe_b64decode(secret_key + "=" * (-len(secret_key) % 4))
    if len(raw) != 32:
        raise ValueError("VAJ_SECRET_KEY must be 32 bytes in URL-safe base64")
    return raw


class IdempotencyKeys:
    """Looks answers up and keeps them; knows what runs in this process right now."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._vault = Vault(secret, "idempotency")
        self._running: set[bytes] = set()

    def scope(self, principal: str, method: str, route: str, key: str) -> bytes:
        """What a key is unique in; raises `IdempotencyKeyInvalid`."""
        if not _KEY.fullmatch(key):
            raise IdempotencyKeyInvalid("1 to 255 visible ASCII characters")
        return hashlib.sha256("\0".join((principal, method, route, key)).encode()).digest()

    def fingerprint(self, body: bytes) -> bytes:
        """Tells bodies apart; keyed, because a body may hold a password."""
        return hmac.digest(self._secret, b"fingerprint" + body, "sha256")

    @contextmanager
    def running(self, scope: bytes) -> Iterator[None]:
        """Only one request of a scope runs in this process; raises `IdempotencyInProgress` for another."""
        if scope in self._running:
            raise IdempotencyInProgress
        self._running.add(scope)
        try:
            yield
        finally:
            self._running.discard(scope)

    async def find(self, tx: Transaction, scope: bytes, fingerprint: bytes) -> Answer | None:
        """The answer kept for this scope; raises `IdempotencyKeyReused` when it was given to another body."""
        row = await tx.fetchrow("SELECT fingerprint, answer FROM idempotency_keys WHERE scope = $1", scope)
        if row is None:
            return None
        if row["fingerprint"] != fingerprint:
            raise IdempotencyKeyReused("this key came with another body before")
        kept = msgspec.json.decode(self._vault.open(row["answer"]), type=_Kept)
        return Answer(kept.status, kept.headers, kept.body)

    def keep(self, tx: Transaction, scope: bytes, fingerprint: bytes, answer: Answer) -> None:
        """Queue the answer's row; a second writer of the same scope fails as `IdempotencyKeyTaken`."""
        kept = _Kept(answer.status, {n: v for n, v in answer.headers.items() if n.lower() in HEADERS_KEPT}, answer.body)
        tx.write(
            "INSERT INTO idempotency_keys (scope, fingerprint, answer) VALUES ($1, $2, $3)",
            scope,
            fingerprint,
            self._vault.seal(msgspec.json.encode(kept)),
        )


class _Kept(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes


def expire(tx: Transaction, *_: Any) -> None:
    """Queue the removal of answers older than 24 h."""
    tx.write("DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(hours => $1)", KEPT_H)
