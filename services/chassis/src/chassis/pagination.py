"""Keyset pages: an opaque, signed cursor that only the list that made it accepts."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel

from chassis.kernel import BadRequest

LIMIT_DEFAULT, LIMIT_MAX = 50, 200
CURSOR_CHARS_MAX = 1_024
_MAC_BYTES = 12

T = TypeVar("T")


class BadCursor(BadRequest):
    """The cursor was not made by this list."""

    slug = "bad-cursor"


class Page(BaseModel, Generic[T]):
    """A page of a list; `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: str | None


class Cursors:
    """Signs positions for clients to carry."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.sha256(b"cursor" + secret).digest()

    def encode(self, purpose: str, position: list[Any]) -> str:
        """Position → opaque text."""
        body = msgspec.json.encode(position)
        return base64.urlsafe_b64encode(self._mac(purpose, body) + body).decode().rstrip("=")

    def decode(self, purpose: str, cursor: str) -> list[Any]:
        """Opaque text → position; raises `BadCursor` for anything that `encode` did not make for this purpose."""
        try:
            if len(cursor) > CURSOR_CHARS_MAX:
                raise ValueError
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
            if not hmac.compare_digest(mac, self._mac(purpose, body)):
                raise ValueError
            position: list[Any] = msgspec.json.decode(body)
        except (ValueError, binascii.Error, msgspec.DecodeError) as error:
            raise BadCursor("the cursor is not one of this list") from error
        return position

    def _mac(self, purpose: str, body: bytes) -> bytes:
        return hmac.digest(self._secret, purpose.encode() + b"\0" + body, "sha256")[:_MAC_BYTES]


class Paging:
    """The page asked for: `limit`, and `position` (None at the start); `page()` shapes the answer."""

    def __init__(self, request: Request, response: Response, limit: int, cursor: str | None) -> None:
        self._request = request
        self._response = response
        self._cursors: Cursors = request.app.state.runtime.cursors
        self._purpose = request.scope["route"].path
        self.limit = limit
        self.position: list[Any] | None = None if cursor is None else self._cursors.decode(self._purpose, cursor)

    def page(self, items: list[T], positions: list[list[Any]]) -> Page[T]:
        """At most `limit` of the items; query `limit + 1` of them with their positions, the extra one tells there is more."""
        if len(items) <= self.limit:
            return Page(items=items, next_cursor=None)
        cursor = self._cursors.encode(self._purpose, positions[self.limit - 1])
        url = self._request.url.include_query_params(cursor=cursor)
        self._response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return Page(items=items[: self.limit], next_cursor=cursor)


async def _paging(
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT,
    cursor: Annotated[str | None, Query(max_length=CURSOR_CHARS_MAX)] = None,
) -> Paging:
    return Paging(request, response, limit, cursor)


PageAsked = Annotated[Paging, Depends(_paging)]
