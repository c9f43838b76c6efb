"""The gateway's own answers as problem+json, and the merged OpenAPI document: a bare ASGI application."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

Message = MutableMapping[str, object]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
Answer = tuple[int, list[tuple[bytes, bytes]], bytes]

PUBLIC_OPENAPI = Path(__file__).resolve().parents[1] / "contracts" / "openapi" / "public.json"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
NO_ROUTE = "/no-route"
PATH_CHARACTERS_MAX = 2048
RETRY_AFTER_S = 1

# status: code, what the caller can do about it
PROBLEMS = {
    404: ("not-found", "no resource of this API has this path"),
    413: ("body-too-large", "the body is larger than this route accepts"),
    429: ("too-many-requests", "too many requests from this address; try again later"),
    502: ("bad-gateway", "the service could not be reached; try again"),
    503: ("service-unavailable", "the service is not available at the moment; try again later"),
    504: ("gateway-timeout", "the service did not answer in time; look before you try again"),
}
RETRIABLE = {429, 503}


async def app(scope: Mapping[str, object], _receive: Receive, send: Send) -> None:
    """Answer one request; uvicorn is told to leave the lifespan out."""
    status, headers, body = answer(scope)
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def answer(scope: Mapping[str, object]) -> Answer:
    """What to say: a document, or the problem the gateway asks for."""
    path = str(scope["path"])
    if path == "/openapi/public.json" and PUBLIC_OPENAPI.exists():
        return 200, [(b"content-type", b"application/json")], PUBLIC_OPENAPI.read_bytes()
    if path == "/ping":
        return 200, [(b"content-type", b"text/plain")], b"OK"
    request_id = _request_id(scope)
    if path.startswith("/problems/"):
        wanted = path.removeprefix("/problems/")
        status = int(wanted) if wanted.isdecimal() and int(wanted) in PROBLEMS else 404
        return problem(status, _instance(scope), request_id)
    return problem(404, path.removeprefix(NO_ROUTE) or "/", request_id)


def problem(status: int, instance: str, request_id: str) -> Answer:
    """A problem as every service writes it (RFC 9457)."""
    code, detail = PROBLEMS[status]
    body = {
        "type": f"https://vouajudar.org/problems/{code}",
        "title": code.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": instance[:PATH_CHARACTERS_MAX],
        "code": code,
        "request_id": request_id,
    }
    headers = [(b"content-type", b"application/problem+json"), (b"x-request-id", request_id.encode())]
    if status in RETRIABLE:
        headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    return status, headers, json.dumps(body, ensure_ascii=False).encode()


def _instance(scope: Mapping[str, object]) -> str:
    """The path first asked for, without its query: the gateway names it, or forwards it as a header."""
    query = scope["query_string"]
    named = parse_qs(query.decode("latin-1") if isinstance(query, bytes) else "").get("instance", [""])[0]
    if named in {"", "forwarded"}:
        named = _header(scope, b"x-forwarded-uri")
    return urlsplit(named).path.removeprefix(NO_ROUTE) or "/"


def _request_id(scope: Mapping[str, object]) -> str:
    given = _header(scope, b"x-request-id")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _header(scope: Mapping[str, object], name: bytes) -> str:
    headers = scope["headers"]
    assert isinstance(headers, list)
    return next((value.decode("latin-1") for key, value in headers if key == name), "")
