"""For other services only, on the internal port: how to reach a person. Events say who, never where."""

from __future__ import annotations

import hmac
from typing import Annotated
from uuid import UUID

from chassis.auth import Unauthenticated
from chassis.routing import OfRuntime
from chassis.wire import View
from contracts.values import Locale
from fastapi import APIRouter, Depends, Header

from identity import queries


class ContactOut(View):
    """How a person is reached, and in which language."""

    user_id: UUID
    email: str
    display_name: str
    locale: Locale


def _trusted(runtime: OfRuntime, authorization: Annotated[str, Header()] = "") -> None:
    expected = f"Bearer {runtime.settings.internal_token.get_secret_value()}"
    if not hmac.compare_digest(authorization.encode(), expected.encode()):
        raise Unauthenticated("the internal token is needed")


router = APIRouter(dependencies=[Depends(_trusted)])


@router.get("/internal/v1/contacts/{user_id}")
async def get_contact(user_id: UUID, runtime: OfRuntime) -> ContactOut:
    """A person's address and language; 404 for nobody."""
    row = await queries.contact(runtime.database.reading(), user_id)
    return ContactOut.model_validate(dict(row))
