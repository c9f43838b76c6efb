"""Standard Webhooks signatures over `id.timestamp.body`: `v1` HMAC-SHA256 and `v1a` Ed25519, one entry per valid key.

Pure: told the id, the time and the keys. The specification is at https://www.standardwebhooks.com.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from uuid import UUID

from chassis.kernel import Invalid
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix, no secret
PUBLIC_KEY_PREFIX = "whpk_"
KEY_BYTES_MIN = 24
KEY_BYTES_MAX = 64
# A dot would make `id.timestamp.body` ambiguous; white space and controls would break the header.
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_:-]{1,128}", re.ASCII)
_SYMMETRIC, _ASYMMETRIC = "v1", "v1a"
_SEED_BYTES = 32

SigningKey = bytes | Ed25519PrivateKey
"""Makes signatures: a secret's bytes make `v1`, a private key `v1a`."""

VerifyingKey = bytes | Ed25519PublicKey
"""Verifies what the signing key of its kind made."""


class InvalidSecret(Invalid):
    """The text is no signing secret; the message never repeats it."""

    slug = "invalid-secret"


def format_secret(key: bytes) -> str:
    """The `whsec_…` text of a key of 24 to 64 random bytes."""
    _require_length(key)
    return SECRET_PREFIX + _base64(key)


def parse_secret(secret: str) -> bytes:
    """The key inside a secret, with or without the `whsec_` prefix; raises InvalidSecret."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise InvalidSecret("a secret is whsec_ followed by base64") from error
    _require_length(key)
    return key


def key_pair_of(key: bytes, endpoint_id: UUID, service_secret: bytes) -> Ed25519PrivateKey:
    """The Ed25519 key that goes with a secret of an endpoint; who knows that secret alone cannot tell it (HKDF, RFC 5869)."""
    derivation = HKDF(SHA256(), _SEED_BYTES, salt=None, info=b"webhooks.v1a\0" + endpoint_id.bytes + key)
    return Ed25519PrivateKey.from_private_bytes(derivation.derive(service_secret))


def format_public_key(pair: Ed25519PrivateKey) -> str:
    """The `whpk_…` text that receivers verify `v1a` with."""
    return PUBLIC_KEY_PREFIX + _base64(pair.public_key().public_bytes_raw())


def jwk_of(pair: Ed25519PrivateKey) -> dict[str, str]:
    """The public half as a JSON Web Key (RFC 8037); `kid` is its thumbprint (RFC 7638)."""
    x = _base64url(pair.public_key().public_bytes_raw())
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    kid = _base64url(hashlib.sha256(canonical.encode()).digest())
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"}


def sign(message_id: str, timestamp: int, body: bytes, keys: Sequence[SigningKey]) -> str:
    """The value of `webhook-signature`: an entry `<scheme>,<base64>` per key, in their order, separated by spaces.

    `timestamp` is in whole seconds; `body` is exactly what will be sent.
    """
    if not keys:
        raise InvalidSecret("nothing to sign with")
    content = _signed_content(message_id, timestamp, body)
    return " ".join(_entry(key, content) for key in keys)


def signed_headers(message_id: str, timestamp: int, body: bytes, keys: Sequence[SigningKey]) -> dict[str, str]:
    """The three headers of the standard for one attempt: the id stays over retries, the timestamp does not."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(message_id, timestamp, body, keys),
    }


def verify(message_id: str, timestamp: int, body: bytes, signature_header: str, keys: Sequence[VerifyingKey]) -> bool:
    """Whether any entry of the header was made by any of the keys; the age of the timestamp is not judged."""
    content = _signed_content(message_id, timestamp, body)
    entries = [entry.partition(",") for entry in signature_header.split(" ")]
    return any(_fits(key, content, scheme, _decoded(text)) for key in keys for scheme, _, text in entries)


def _signed_content(message_id: str, timestamp: int, body: bytes) -> bytes:
    if _MESSAGE_ID.fullmatch(message_id) is None:
        raise Invalid("a message id is 1 to 128 of A-Z a-z 0-9 _ : -")
    return f"{message_id}.{timestamp}.".encode("ascii") + body


def _entry(key: SigningKey, content: bytes) -> str:
    if isinstance(key, bytes):
        return f"{_SYMMETRIC},{_base64(_digest(key, content))}"
    return f"{_ASYMMETRIC},{_base64(key.sign(content))}"


def _fits(key: VerifyingKey, content: bytes, scheme: str, signature: bytes) -> bool:
    if isinstance(key, bytes):
        return scheme == _SYMMETRIC and hmac.compare_digest(_digest(key, content), signature)
    if scheme != _ASYMMETRIC:
        return False
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _digest(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, hashlib.sha256)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return b""


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _require_length(key: bytes) -> None:
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        raise InvalidSecret(f"a secret holds {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes")
