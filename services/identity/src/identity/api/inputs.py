"""What several routes take: who may read, the process's own parts, and input types of identity."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar
from uuid import UUID
from zoneinfo import available_timezones

from chassis.access import Principal
from chassis.auth import MissingScope
from chassis.routing import OfRuntime, principal_of
from chassis.wire import Body, Reason
from contracts.values import TimeZone
from fastapi import Depends, Request
from pydantic import AfterValidator, Field, StringConstraints

from identity.domain import EMAIL_CHARS_MAX, EMAIL_PATTERN, PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN
from identity.passwords import Passwords
from identity.tokens import Signer

ANONYMOUS: dict[str, Any] = {"security": []}

T = TypeVar("T")


async def _reader(request: Request) -> Principal:
    principal = await principal_of(request)
    if principal.kind == "key" and not any(scope.endswith(":read") for scope in principal.scopes):
        raise MissingScope("the key may read nothing")
    return principal


def _passwords(runtime: OfRuntime) -> Passwords:
    passwords: Passwords = runtime.service.passwords
    return passwords


def _signer(runtime: OfRuntime) -> Signer:
    signer: Signer = runtime.service.signer
    return signer


Reader = Annotated[Principal, Depends(_reader)]
OfPasswords = Annotated[Passwords, Depends(_passwords)]
OfSigner = Annotated[Signer, Depends(_signer)]


def _each_once(values: list[T]) -> list[T]:
    if len(set(values)) != len(values):
        raise ValueError("each only once")
    return values


def _known_zone(zone: str) -> str:
    if zone not in available_timezones():
        raise ValueError("an IANA time zone is needed")
    return zone


def position(cursor: list[Any] | None) -> UUID | None:
    """Where a page by id begins."""
    return None if cursor is None else UUID(cursor[0])


EachOnce = [AfterValidator(_each_once), Field(json_schema_extra={"uniqueItems": True})]
Email = Annotated[str, StringConstraints(max_length=EMAIL_CHARS_MAX, pattern=EMAIL_PATTERN)]
NewPassword = Annotated[str, StringConstraints(min_length=PASSWORD_CHARS_MIN, max_length=PASSWORD_CHARS_MAX)]
Password = Annotated[str, StringConstraints(min_length=1, max_length=PASSWORD_CHARS_MAX)]
Zone = Annotated[TimeZone, AfterValidator(_known_zone)]


class ReasonIn(Body):
    """Why, when there is something to say."""

    reason: Reason | None = None
