"""The one ASGI layer in front of the routes: request id, trace, size limit, metrics and the log line of a request."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.problems import problem
from chassis.telemetry import REQUEST_SECONDS, Context, current_context, in_context, log, start_context

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_SAFE = ("GET", "HEAD", "OPTIONS")


class Edge:
    """Wraps the app twice: `plain`, and `traced` for the sampled share, so that an unsampled request pays nothing."""

    def __init__(
        self,
        app: object,
        plain: ASGIApp,
        traced: ASGIApp,
        *,
        sample_ratio: float,
        body_bytes_max: int,
        unlimited: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._plain = plain
        self._traced = traced
        self._sample_ratio = sample_ratio
        self._body_bytes_max = body_bytes_max
        self._unlimited = frozenset(unlimited)  # whole paths: what is below one reads its body like any other

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._plain(scope, receive, send)
            return
        started = time.perf_counter()
        scope["app"] = self._app
        headers = dict(scope["headers"])
        context = self._context(scope, headers)
        answer = _Answer(send, (context.request_id or "").encode())
        with in_context(context):
            await self._serve(scope, headers, receive, answer)
            _report(scope, answer.status, time.perf_counter() - started)

    def _context(self, scope: Scope, headers: dict[bytes, bytes]) -> Context:
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else uuid4().hex
        context = start_context(sample_ratio=self._sample_ratio, request_id=request_id)
        forwarded = headers.get(b"x-forwarded-for", b"").split(b",")[0].strip().decode("latin-1")[:45]
        client = scope.get("client")
        return replace(context, address=forwarded or (client[0] if client else None))

    async def _serve(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, answer: _Answer) -> None:
        refused = self._refusal(scope, headers)
        if refused is not None:
            request = Request(scope)
            await problem(request, *refused)(scope, receive, answer)
            return
        limited = receive if scope["path"] in self._unlimited else self._limited(receive)
        try:
            await self._app_for(scope)(scope, limited, answer)
        except Exception as error:
            log.error("request.failed", path=scope["path"], error=repr(error), exc_info=True)
            if not answer.status:
                await problem(Request(scope), 500, "internal", "something went wrong on our side")(
                    scope, receive, answer
                )

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
        if b"\0" in scope["path"].encode() or b"%00" in scope.get("query_string", b""):
            return 400, "nul-character", "NUL is not allowed in an address"
        length = headers.get(b"content-length", b"0")
        if scope["path"] in self._unlimited:
            return None
        if not length.isdigit() or int(length[:18]) > self._body_bytes_max:
            return 413, "body-too-large", f"at most {self._body_bytes_max} bytes"
        return None

    def _limited(self, receive: Receive) -> Receive:
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._body_bytes_max:
                raise HTTPException(413, f"at most {self._body_bytes_max} bytes")
            return message

        return limited

    def _app_for(self, scope: Scope) -> ASGIApp:
        context = current_context()
        if not context.sampled:
            return self._plain
        kept = [(name, value) for name, value in scope["headers"] if name not in (b"traceparent", b"tracestate")]
        scope["headers"] = [*kept, (b"traceparent", context.traceparent.encode())]
        return self._traced


class _Answer:
    """Sends on, with the request id added; remembers the status."""

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._request_id)]
        await self._send(message)


def _report(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "unmatched")
    REQUEST_SECONDS.labels(scope["method"], route, status).observe(seconds)
    if scope["method"] not in _SAFE or status >= 500:
        log.info(
            "request.served", method=scope["method"], route=route, status=status, duration_ms=round(seconds * 1000, 2)
        )
