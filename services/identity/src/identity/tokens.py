"""Tokens: signed access tokens that every service verifies by itself, and opaque refresh tokens stored hashed."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from uuid import UUID

import msgspec
from chassis.auth import ALGORITHMS, AUDIENCE
from chassis.kernel import new_id
from joserfc import jwt
from joserfc.jwk import ECKey

CLIENT_ID = "vouajudar"  # RFC 9068 wants to know the client: our own apps
CURVE = "P-256"


class Signer:
    """Signs access tokens (RFC 9068 `at+jwt`, ES256) once it has been given a key."""

    def __init__(self, *, issuer: str, ttl_s: int) -> None:
        self._issuer = issuer
        self._key: ECKey | None = None
        self.ttl_s = ttl_s

    def use(self, key: ECKey) -> None:
        """Sign with this key from now on."""
        self._key = key

    def access_token(self, *, user_id: UUID, session_id: UUID, now: datetime) -> str:
        """A token of one session, good for `ttl_s`."""
        if self._key is None:
            raise RuntimeError("the signer has no key yet")
        issued = int(now.timestamp())
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "sid": str(session_id),
            "client_id": CLIENT_ID,
            "jti": str(new_id()),
            "iat": issued,
            "exp": issued + self.ttl_s,
        }
        header = {"alg": ALGORITHMS[0], "typ": "at+jwt", "kid": str(self._key.kid)}
        return jwt.encode(header, claims, self._key, algorithms=ALGORITHMS)


def new_signing_key(key_id: UUID) -> ECKey:
    """A fresh key pair that calls itself `key_id`."""
    return ECKey.generate_key(CURVE, parameters={"kid": str(key_id), "use": "sig", "alg": ALGORITHMS[0]}, private=True)


def public_half(key: ECKey) -> dict[str, str]:
    """The JWK that the world may see."""
    return {name: str(value) for name, value in key.as_dict(private=False).items()}


def private_bytes(key: ECKey) -> bytes:
    """The whole JWK, for encryption at rest."""
    return msgspec.json.encode(key.as_dict(private=True))


def from_private_bytes(data: bytes) -> ECKey:
    """The key that `private_bytes` wrote."""
    return ECKey.import_key(msgspec.json.decode(data, type=dict[str, str | list[str]]))


def new_refresh_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def refresh_digest(token: str) -> bytes:
    """What is stored of a refresh token."""
    return hashlib.sha256(token.encode()).digest()
