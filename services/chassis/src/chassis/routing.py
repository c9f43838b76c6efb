"""How a route meets the database: one command, one commit, one stored answer; and what a route may ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.routing import APIRoute

from chassis.access import Directory, Principal
from chassis.auth import MissingScope, Unauthenticated
from chassis.database import Transaction
from chassis.idempotency import Answer
from chassis.kernel import BadRequest, ConcurrentUpdate, DomainError, Invalid
from chassis.problems import problem_of
from chassis.ratelimit import Quota
from chassis.telemetry import set_actor

if TYPE_CHECKING:
    from chassis.app import Runtime

COMMAND_TRIES = 4  # the first without locks, the others with: a clash can then only come from a new aggregate's key
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_ETAG = r'^(\*|(W/)?"[0-9]{1,9}")$'

Endpoint = Callable[..., Any]


def not_idempotent(endpoint: Endpoint) -> Endpoint:
    """The route ignores `Idempotency-Key` (sign-in and token routes)."""
    endpoint.idempotency = "none"  # type: ignore[attr-defined]
    return endpoint


def idempotent_by(field: str) -> Callable[[Endpoint], Endpoint]:
    """An anonymous route whose keys are scoped by a field of its body."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.idempotency = f"body:{field}"  # type: ignore[attr-defined]
        return endpoint

    return mark


async def principal_of(request: Request) -> Principal:
    """Who calls, checked and counted against the quota once per request."""
    known: Principal | None = getattr(request.state, "principal", None)
    if known is not None:
        return known
    runtime: Runtime = request.app.state.runtime
    principal = await runtime.authenticator.principal(request.headers)
    set_actor(str(principal.id))
    limit = principal.rate_per_minute or runtime.settings.rate_per_minute
    request.state.quota = await runtime.quotas.take(str(principal.id), limit=limit)
    request.state.principal = principal
    return principal


class CommandRoute(APIRoute):
    """A safe method reads; any other is one command: its effect and its stored answer commit together, before the answer leaves."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        original = super().get_route_handler()
        idempotency = getattr(self.endpoint, "idempotency", "principal")

        async def read(request: Request) -> Response:
            request.state.tx = request.app.state.runtime.database.reading()
            return _with_quota(request, await original(request))

        async def command(request: Request) -> Response:
            if _NUL.search(await request.body()):
                raise BadRequest("NUL is not allowed in text", pointer="/")
            key = request.headers.get("idempotency-key") if request.method == "POST" else None
            if key is None or idempotency == "none":
                return _with_quota(request, await _commit(request, original))
            return _with_quota(request, await _once(request, original, idempotency, key))

        return read if (self.methods or set()) <= {"GET", "HEAD"} else command


Original = Callable[[Request], Coroutine[Any, Any, Response]]
Keep = Callable[[Transaction, Response], None]


async def _commit(request: Request, original: Original, keep: Keep | None = None) -> Response:
    database = request.app.state.runtime.database
    for attempt in range(COMMAND_TRIES):
        scope: AbstractAsyncContextManager[Transaction] = database.transaction() if attempt else database.command()
        try:
            async with scope as tx:
                request.state.tx = tx
                response = await original(request)
                if keep is not None and response.status_code < 500:
                    keep(tx, response)
        except ConcurrentUpdate:
            if attempt == COMMAND_TRIES - 1:
                raise
        else:
            return response
    raise AssertionError("unreachable")


async def _once(request: Request, original: Original, idempotency: str, key: str) -> Response:
    """The first request of a key has the effect and its answer is kept with it; the others get that answer.

    The kept answer is looked up only when this request had no effect: because its key was taken when the writes
    were sent, or because the domain refused it, perhaps on account of what the first one did.
    """
    runtime: Runtime = request.app.state.runtime
    body = await request.body()
    owner = await _owner(request, idempotency, body)
    scope = runtime.idempotency_keys.scope(owner, request.method, request.url.path, key)
    fingerprint = runtime.idempotency_keys.fingerprint(body)

    def keep(tx: Transaction, response: Response) -> None:
        answer = Answer(response.status_code, dict(response.headers), bytes(response.body))
        runtime.idempotency_keys.keep(tx, scope, fingerprint, answer)

    with runtime.idempotency_keys.running(scope):
        try:
            return await _commit(request, original, keep)
        except DomainError as error:
            kept = await runtime.idempotency_keys.find(runtime.database.reading(), scope, fingerprint)
            if kept is not None:
                return Response(kept.body, kept.status, {**kept.headers, "Idempotency-Replayed": "true"})
            response = problem_of(request, error)
            if response.status_code in (404, 409, 412):  # decided by the domain: the same key gets the same answer
                async with runtime.database.command() as tx:
                    keep(tx, response)
            return response


async def _owner(request: Request, idempotency: str, body: bytes) -> str:
    if idempotency == "principal":
        return str((await principal_of(request)).id)
    try:
        return f"anonymous:{msgspec.json.decode(body)[idempotency.removeprefix('body:')]!s}".lower()
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise Invalid(f"{idempotency.removeprefix('body:')} is needed", pointer="/") from error


def _with_quota(request: Request, response: Response) -> Response:
    quota: Quota | None = getattr(request.state, "quota", None)
    if quota is not None:
        response.headers.update(quota.headers)
    return response


# Dependencies are coroutines because FastAPI runs plain functions in a thread, at several times their cost.
async def _transaction(request: Request) -> Transaction:
    tx: Transaction = request.state.tx
    return tx


async def _now() -> datetime:
    return datetime.now(UTC)


async def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


async def _directory(request: Request) -> Directory:
    directory: Directory = request.app.state.runtime.directory
    return directory.within(request.state.tx)


def require(scope: str | None = None) -> Any:
    """A dependency: the caller, who as a key must carry `scope`; without a scope only people may call."""

    async def check(request: Request) -> Principal:
        principal = await principal_of(request)
        if principal.kind == "key" and scope not in principal.scopes:
            raise MissingScope(f"the key lacks {scope}" if scope else "only people may do this")
        return principal

    return Depends(check)


class AdminOnly(MissingScope):
    """Only a platform admin may do this."""

    slug = "admin-only"


async def _admin(request: Request) -> Principal:
    principal = await principal_of(request)
    if not principal.is_admin:
        raise AdminOnly("only an admin may do this")
    return principal


async def _if_match(if_match: Annotated[str | None, Header(pattern=_ETAG)] = None) -> int | None:
    return None if if_match is None or if_match == "*" else int("".join(filter(str.isdigit, if_match)))


def set_etag(response: Response, version: int) -> None:
    """Name the version that the answer shows."""
    response.headers["ETag"] = f'"{version}"'


Tx = Annotated[Transaction, Depends(_transaction)]
Now = Annotated[datetime, Depends(_now)]
IfMatch = Annotated[int | None, Depends(_if_match)]
Admin = Annotated[Principal, Depends(_admin)]
Person = Annotated[Principal, require()]
OfDirectory = Annotated[Directory, Depends(_directory)]
OfRuntime = Annotated[Any, Depends(_runtime)]


def api_router(tag: str) -> APIRouter:
    """A router whose routes are commands and queries as described above."""
    return APIRouter(route_class=CommandRoute, tags=[tag])


__all__ = [
    "Admin", "CommandRoute", "IfMatch", "Now", "OfDirectory", "OfRuntime", "Person", "Tx", "Unauthenticated", "api_router",
    "idempotent_by", "not_idempotent", "principal_of", "require", "set_etag",
]  # fmt: skip
