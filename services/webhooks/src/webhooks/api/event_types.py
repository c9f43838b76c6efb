"""The catalogue of what can be received."""

from __future__ import annotations

from typing import Any

from chassis.pagination import Page, PageAsked
from chassis.routing import api_router
from chassis.wire import View
from pydantic import ConfigDict, Field

from webhooks import public_events
from webhooks.api.callers import Manager

router = api_router("webhooks")


class EventTypeOut(View):
    """An event type: the JSON Schema of its `data`, and an example of the whole envelope."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    type: str
    description: str
    schema_: dict[str, Any] = Field(alias="schema")
    example: dict[str, Any]


@router.get("/v1/event-types", operation_id="list_event_types")
async def list_event_types(paging: PageAsked, _: Manager) -> Page[EventTypeOut]:
    """Every event type that an endpoint can receive, by name."""
    after = paging.position[0] if paging.position else ""
    found = [kind for kind in public_events.described() if kind["type"] > after][: paging.limit + 1]
    return paging.page([EventTypeOut.model_validate(kind) for kind in found], [[kind["type"]] for kind in found])
