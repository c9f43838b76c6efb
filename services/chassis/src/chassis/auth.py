"""A token or an API key becomes a Principal; scopes and quotas are asked for where a route is declared."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import time
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from uuid import UUID

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from chassis.access import Directory, Principal
from chassis.kernel import DomainError, Forbidden

TOKENS_CACHED_MAX = 10_000
TOKEN_CACHE_S = 30
TOKEN_CHARS_MAX = 4_096
ALGORITHMS = ["ES256"]
AUDIENCE = "vouajudar"

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(r"vaj_(live|test)_([0-9A-Za-z]{38})([0-9A-Za-z]{6})", re.ASCII)


class Unauthenticated(DomainError):
    """No credentials, or none that count."""

    slug = "unauthenticated"


class MissingScope(Forbidden):
    """The key does not carry the scope that the route asks for."""

    slug = "missing-scope"


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        digits.append(_BASE62[rest])
    return "".join(reversed(digits))


def make_key(env: str) -> str:
    """A new API key: `vaj_<env>_`, 8 characters of id, 30 of secret, 6 of CRC-32."""
    body = "".join(secrets.choice(_BASE62) for _ in range(38))
    return f"vaj_{env}_{body}{_checksum(env, body)}"


def _checksum(env: str, body: str) -> str:
    return _base62(zlib.crc32(f"vaj_{env}_{body}".encode()), 6)


def key_is_well_formed(key: str) -> bool:
    """Shape and checksum agree; junk is refused without a look-up."""
    match = _KEY.fullmatch(key)
    return match is not None and match[3] == _checksum(match[1], match[2])


def key_digest(key: str) -> str:
    """What is stored of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _header(token: str) -> dict[str, object]:
    segment = token.split(".", 1)[0]
    header = msgspec.json.decode(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    if not isinstance(header, dict):
        raise ValueError("no JOSE header")
    return header


class Authenticator:
    """Checks credentials against the service's own replica; identity need not run."""

    def __init__(self, directory: Directory, *, issuer: str) -> None:
        self._directory = directory
        self._claims = jwt.JWTClaimsRegistry(
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": AUDIENCE},
            exp={"essential": True},
            sub={"essential": True},
        )
        self._verified: OrderedDict[str, tuple[float, UUID, UUID]] = OrderedDict()

    async def principal(self, headers: Mapping[str, str]) -> Principal:
        """Who calls; raises `Unauthenticated` for missing, altered, expired or revoked credentials."""
        key = headers.get("x-api-key") or headers.get("x-inova-api-key")
        if key is not None:
            return await self._by_key(key)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("a bearer token or an API key is needed")
        return await self._by_token(token)

    async def _by_key(self, key: str) -> Principal:
        principal = await self._directory.by_key(key_digest(key)) if key_is_well_formed(key) else None
        if principal is None:
            raise Unauthenticated("the API key does not count")
        return principal

    async def _by_token(self, token: str) -> Principal:
        user_id, session_id = await self._verify(token)
        principal = await self._directory.by_session(user_id, session_id)
        if principal is None:
            raise Unauthenticated("the session is over")
        return principal

    async def _verify(self, token: str) -> tuple[UUID, UUID]:
        digest = key_digest(token)
        cached = self._verified.get(digest)
        if cached is not None and cached[0] > time.time():
            return cached[1], cached[2]
        until, user_id, session_id = await self._decode(token)
        self._verified[digest] = (min(time.time() + TOKEN_CACHE_S, until), user_id, session_id)
        if len(self._verified) > TOKENS_CACHED_MAX:
            self._verified.popitem(last=False)
        return user_id, session_id

    async def _decode(self, token: str) -> tuple[float, UUID, UUID]:
        try:
            if len(token) > TOKEN_CHARS_MAX or not token.isascii():
                raise ValueError
            header = _header(token)
            jwk = await self._directory.signing_key(str(header.get("kid", ""))[:64])
            if jwk is None or header.get("typ") != "at+jwt":
                raise ValueError
            decoded = jwt.decode(token, ECKey.import_key(dict(jwk)), algorithms=ALGORITHMS)
            self._claims.validate(decoded.claims)
            return float(decoded.claims["exp"]), UUID(decoded.claims["sub"]), UUID(decoded.claims["sid"])
        except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unauthenticated("the token does not count") from error
