"""Commands that an app queued while it had no network: each is a request to its own route, in order, under its own key."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self

from chassis.kernel import Conflict
from chassis.problems import problem, problem_of
from chassis.routing import Person, api_router, not_idempotent
from chassis.telemetry import current_context, in_context, log
from chassis.wire import Body, UtcMoment, View
from fastapi import Request, Response
from pydantic import Field, model_validator
from starlette.types import Message, Scope

COMMANDS_MAX = 50  # what one app gives on a long day; the whole of it is answered well inside the gateway's timeout
QUEUEABLE = (
    "claim", "confirm", "release", "no-show", "no-show/contest", "waiting-list", "pickup", "dropoff", "return", "refuse",
    "reroute", "discard", "lost", "cancel", "fail",
)  # fmt: skip
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PATH = rf"^/v1/(?:deliveries/({_UUID})/(?:{'|'.join(QUEUEABLE)})|tasks/({_UUID})/complete)$"
_KEPT = (
    "type", "asgi", "http_version", "scheme", "server", "client", "root_path", "app", "starlette.exception_handlers",
    "fastapi_middleware_astack",
)  # fmt: skip

router = api_router("deliveries")


class EarlierCommandFailed(Conflict):
    """An earlier command of the queue about the same delivery or task was refused; this one was not tried."""

    slug = "earlier-command-failed"


class QueuedIn(Body):
    """A POST as the app would have sent it; `client_time` is what its own clock said then."""

    id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[!-~]+$", description="the app's own")]
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[!-~]+$")]
    path: Annotated[str, Field(pattern=_PATH)]
    body: dict[str, Any] | None = None
    if_match: Annotated[str, Field(pattern=r'^"[0-9]{1,9}"$')] | None = None
    client_time: UtcMoment

    @property
    def subject(self) -> str:
        """The delivery or the task that it is about."""
        delivery_id, task_id = re.fullmatch(_PATH, self.path).groups()  # type: ignore[union-attr]
        return str(delivery_id or task_id)


class SyncIn(Body):
    """The queue, oldest first."""

    commands: Annotated[list[QueuedIn], Field(min_length=1, max_length=COMMANDS_MAX)]

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if len({command.id for command in self.commands}) < len(self.commands):
            raise ValueError("an id is used once")
        return self


class AnswerOut(View):
    """What the route answered: `body` when it did what was asked, otherwise `problem`."""

    id: str
    status: int
    replayed: bool
    etag: str | None = None
    body: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None


class SyncOut(View):
    """An answer for every command, in the same order."""

    results: list[AnswerOut]


@router.post("/v1/sync", operation_id="sync_commands")
@not_idempotent  # every command has a key of its own
async def sync_commands(request: Request, body: SyncIn, principal: Person) -> SyncOut:
    """Give queued commands in order, each with its own effect and answer; one that fails holds back those about the same thing."""
    results: list[AnswerOut] = []
    failed: set[str] = set()
    for command in body.commands:
        if results and results[-1].status == 503:  # nobody is there: asking on would only take time
            answer = results[-1].model_copy(update={"id": command.id})
        elif command.subject in failed:
            answer = _answer(command, problem_of(request, EarlierCommandFailed()))
        else:
            answer = await _give(request, command)
        if answer.status >= 400:
            failed.add(command.subject)
        results.append(answer)
    log.info("sync.given", commands=len(results), failed=sum(answer.status >= 400 for answer in results))
    return SyncOut(results=results)


async def _give(request: Request, command: QueuedIn) -> AnswerOut:
    """Ask the command's own route, as this caller, and with the app's clock as evidence."""
    route = _Route(b"" if command.body is None else json.dumps(command.body).encode())
    with in_context(replace(current_context(), client_time=command.client_time)):
        try:
            await request.app.router(_scope(request, command), route.receive, route.send)
        except Exception as error:
            log.error("sync.failed", path=command.path, error=repr(error), exc_info=True)
            return _answer(command, problem(request, 500, "internal", "something went wrong on our side"))
    return _answer(command, Response(route.body, route.status, route.headers))


def _scope(request: Request, command: QueuedIn) -> Scope:
    headers = {"content-type": "application/json", "idempotency-key": command.idempotency_key}
    headers["authorization"] = request.headers["authorization"]
    if command.if_match is not None:
        headers["if-match"] = command.if_match
    return {
        **{name: request.scope[name] for name in _KEPT if name in request.scope},
        "method": "POST",
        "path": command.path,
        "raw_path": command.path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
        "state": {},
    }


@dataclass
class _Route:
    """Both ends of one call of a route: what it is told, and what it answers."""

    told: bytes
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    async def receive(self) -> Message:
        told, self.told = self.told, b""
        return {"type": "http.request", "body": told, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")


def _answer(command: QueuedIn, response: Response) -> AnswerOut:
    told = json.loads(bytes(response.body))
    done = response.status_code < 400
    return AnswerOut(
        id=command.id,
        status=response.status_code,
        replayed=response.headers.get("idempotency-replayed") == "true",
        etag=response.headers.get("etag"),
        body=told if done else None,
        problem=None if done else told | {"instance": command.path},
    )
