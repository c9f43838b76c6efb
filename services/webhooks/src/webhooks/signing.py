"""Standard Webhooks signatures: `v1` HMAC-SHA256 over `id.timestamp.body`, one entry per valid secret.

Pure: told the id, the time and the keys. The specification is at https://www.standardwebhooks.com.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence

from chassis.kernel import Invalid

SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix, no secret
KEY_BYTES_MIN = 24
KEY_BYTES_MAX = 64
# A dot would make `id.timestamp.body` ambiguous; white space and controls would break the header.
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_:-]{1,128}", re.ASCII)
_SCHEME = "v1"


class InvalidSecret(Invalid):
    """The text is no signing secret; the message never repeats it."""

    slug = "invalid-secret"


def format_secret(key: bytes) -> str:
    """The `whsec_…` text of a key of 24 to 64 random bytes."""
    _require_length(key)
    return SECRET_PREFIX + base64.b64encode(key).decode("ascii")


def parse_secret(secret: str) -> bytes:
    """The key inside a secret, with or without the `whsec_` prefix; raises InvalidSecret."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise InvalidSecret("a secret is whsec_ followed by base64") from error
    _require_length(key)
    return key


def sign(message_id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> str:
    """The value of `webhook-signature`: `v1,<base64>` once per key, newest key first, separated by spaces.

    `timestamp` is in whole seconds; `body` is exactly what will be sent.
    """
    if not keys:
        raise InvalidSecret("nothing to sign with")
    content = _signed_content(message_id, timestamp, body)
    return " ".join(f"{_SCHEME},{base64.b64encode(_digest(key, content)).decode('ascii')}" for key in keys)


def signed_headers(message_id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """The three headers of the standard for one attempt: the id stays over retries, the timestamp does not."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(message_id, timestamp, body, keys),
    }


def verify(message_id: str, timestamp: int, body: bytes, signature_header: str, keys: Sequence[bytes]) -> bool:
    """Whether any `v1` entry of the header was made by any of the keys; the age of the timestamp is not judged."""
    content = _signed_content(message_id, timestamp, body)
    expected = [_digest(key, content) for key in keys]
    given = [_decoded(entry) for entry in signature_header.split(" ")]
    return any(hmac.compare_digest(mine, theirs) for mine in expected for theirs in given)


def _signed_content(message_id: str, timestamp: int, body: bytes) -> bytes:
    if _MESSAGE_ID.fullmatch(message_id) is None:
        raise Invalid("a message id is 1 to 128 of A-Z a-z 0-9 _ : -")
    return f"{message_id}.{timestamp}.".encode("ascii") + body


def _digest(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, hashlib.sha256)


def _decoded(entry: str) -> bytes:
    scheme, _, signature = entry.partition(",")
    if scheme != _SCHEME:
        return b""
    try:
        return base64.b64decode(signature.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return b""


def _require_length(key: bytes) -> None:
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        raise InvalidSecret(f"a secret holds {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes")
