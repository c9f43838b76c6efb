"""RFC 9457 problems: every non-2xx answer has this shape; the one table from kind of error to status."""

from __future__ import annotations

from typing import Any

import asyncpg
import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from chassis.auth import Unauthenticated
from chassis.database import UNAVAILABLE_ERRORS
from chassis.kernel import BadRequest, Conflict, DomainError, Forbidden, Invalid, Locked, NotFound, Stale
from chassis.telemetry import current_context, log

PROBLEM_TYPE = "application/problem+json"
ERRORS_MAX = 20  # more pointers than this help nobody


class QuotaExceeded(Locked):
    """More requests than the quota allows."""

    slug = "quota-exceeded"


STATUS_OF: tuple[tuple[type[DomainError], int], ...] = (
    (BadRequest, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Stale, 412),
    (Invalid, 422),
    (Locked, 429),
)
_CODES = {
    400: "bad-request",
    401: "unauthenticated",
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "unsupported-media-type",
}
_RESERVED = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}


def status_of(error: DomainError) -> int:
    """The HTTP status of a kind of error."""
    return next((status for kind, status in STATUS_OF if isinstance(error, kind)), 409)


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str = "",
    *,
    errors: list[dict[str, str]] | None = None,
    **extra: Any,
) -> Response:
    """A problem response; extra members never shadow the standard ones."""
    body: dict[str, Any] = {
        "type": f"https://vouajudar.org/problems/{code}",
        "title": code.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        "code": code,
        "request_id": current_context().request_id,
        **{name: value for name, value in extra.items() if name not in _RESERVED},
    }
    if errors:
        body["errors"] = errors[:ERRORS_MAX]
    response = Response(msgspec.json.encode(body, enc_hook=str), status, media_type=PROBLEM_TYPE)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer realm="vouajudar"'
    if "retry_after_s" in extra:
        response.headers["Retry-After"] = str(max(1, round(extra["retry_after_s"])))
    return response


def problem_of(request: Request, error: DomainError) -> Response:
    """The answer to a rule that said no."""
    pointer = error.details.get("pointer")
    details = {name: value for name, value in error.details.items() if name != "pointer"}
    errors = [{"pointer": str(pointer), "detail": str(error)}] if pointer else None
    return problem(request, status_of(error), error.slug, str(error), errors=errors, **details)


def invalid_input(request: Request, error: RequestValidationError) -> Response:
    """400 for what is no JSON, 415 for another type, 422 with pointers for the rest."""
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return problem(request, 400, "bad-json", "the body is not valid JSON")
    content_type = request.headers.get("content-type", "")
    if found and found[0]["type"] == "model_attributes_type" and content_type and "json" not in content_type:
        return problem(request, 415, "unsupported-media-type", "send application/json")
    errors = [{"pointer": _pointer(item["loc"]), "detail": str(item["msg"])} for item in found[:ERRORS_MAX]]
    return problem(request, 422, "invalid-input", "the input does not fit the schema", errors=errors)


def _pointer(location: tuple[int | str, ...]) -> str:
    place, *path = location
    if place == "body":
        return "/" + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return f"{place}:{'/'.join(map(str, path))}"


def install(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""
    app.add_exception_handler(DomainError, problem_of)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, invalid_input)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _http_problem)
    for kind in UNAVAILABLE_ERRORS:
        app.add_exception_handler(kind, _unavailable)
    app.add_exception_handler(asyncpg.DataError, _unstorable)
    app.add_exception_handler(Exception, _internal)


def _http_problem(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(error.detail) if isinstance(error, HTTPException) else ""
    response = problem(request, status, _CODES.get(status, "http-error"), detail)
    if status == 405:
        response.headers["Allow"] = ", ".join(_methods_of(request))
        return response
    response.headers.update((isinstance(error, HTTPException) and error.headers) or {})
    return response


def _methods_of(request: Request) -> list[str]:
    """Every method that some route takes at this address."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE]
    return sorted({method for route in routes for method in getattr(route, "methods", None) or ()})


def _unavailable(request: Request, error: Exception) -> Response:
    log.error("request.unavailable", error=repr(error))
    return problem(request, 503, "unavailable", "try again shortly", retry_after_s=1)


def _unstorable(request: Request, error: Exception) -> Response:
    log.warning("request.unstorable", error=repr(error))
    return problem(request, 422, "invalid-input", "a value cannot be stored")


def _internal(request: Request, error: Exception) -> Response:
    return problem(request, 500, "internal", "something went wrong on our side; the request id helps us find it")
