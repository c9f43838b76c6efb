"""The public routes of notifications: parse, one call, shape."""

from __future__ import annotations

from datetime import datetime, time
from typing import Annotated, Any
from uuid import UUID

from chassis.database import Row
from chassis.pagination import Page, PageAsked
from chassis.routing import Now, OfRuntime, Person, Tx, api_router, not_idempotent
from chassis.wire import Body, UtcMoment, View
from contracts.values import Locale, TimeZone
from fastapi import Header, Response
from fastapi.responses import HTMLResponse
from pydantic import ConfigDict, Field

from notifications import queries, usecases
from notifications.domain import Kind, Preferences, QuietHours, user_of
from notifications.rendering import brief, unsubscribe_page

router = api_router("notifications")

HourMinute = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["22:00"])]
Switch = Annotated[bool, Field(strict=True)]


class AboutOut(View):
    """The event that was told: its type, and the id of what it is about; what is said of a delivery is about the delivery."""

    type: str
    subject: UUID


class NotificationOut(View):
    """A notification, in its reader's language."""

    id: UUID
    kind: Kind
    title: str
    body: str
    created_at: UtcMoment
    read_at: UtcMoment | None
    event: AboutOut


class ChannelsIn(Body):
    """Channels besides the inbox, which is always there."""

    email: Switch


class QuietHoursIn(Body):
    """When no mail shall come, over midnight if `to` is before `from`; recalls and late cancellations come anyway."""

    from_: HourMinute = Field(alias="from")
    to: HourMinute
    tz: TimeZone


class PreferencesIn(Body):
    """All of a person's wishes; without a `locale` it is the account's."""

    locale: Locale | None = None
    channels: ChannelsIn
    quiet_hours: QuietHoursIn | None = None


class ChannelsOut(View):
    """Channels besides the inbox."""

    email: bool


class QuietHoursOut(View):
    """When no mail comes."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    from_: str = Field(alias="from")
    to: str
    tz: str


class PreferencesOut(View):
    """A person's wishes."""

    locale: Locale | None
    channels: ChannelsOut
    quiet_hours: QuietHoursOut | None


@router.get("/v1/notifications", operation_id="list_notifications")
async def list_notifications(
    tx: Tx, paging: PageAsked, person: Person, unread: bool | None = None
) -> Page[NotificationOut]:
    """Your inbox, newest first; `unread` narrows it to what you have not read, or have."""
    before = UUID(paging.position[0]) if paging.position else None
    locale = await queries.locale(tx, person.id)
    rows = await queries.inbox(tx, person.id, unread=unread, limit=paging.limit, before=before)
    return paging.page([_of(row, locale, row["read_at"]) for row in rows], [[row["id"]] for row in rows])


@router.post("/v1/notifications/{notification_id}/read", operation_id="read_notification")
async def read_notification(notification_id: UUID, tx: Tx, person: Person, now: Now) -> NotificationOut:
    """Mark a notification of yours as read; the first time counts."""
    row, read_at = await usecases.read(tx, person.id, notification_id, now=now)
    return _of(row, await queries.locale(tx, person.id), read_at)


@router.get("/v1/me/preferences", operation_id="get_preferences")
async def get_preferences(tx: Tx, person: Person) -> PreferencesOut:
    """How you want to be told."""
    return _preferences(await queries.preferences(tx, person.id))


@router.put("/v1/me/preferences", operation_id="set_preferences")
async def set_preferences(body: PreferencesIn, tx: Tx, person: Person) -> PreferencesOut:
    """Say how you want to be told; what waits for your quiet hours is looked at again."""
    wanted = Preferences(email=body.channels.email, locale=body.locale, quiet_hours=_quiet_hours(body.quiet_hours))
    usecases.set_preferences(tx, person.id, wanted)
    return _preferences(wanted)


_PAGE: dict[int | str, dict[str, Any]] = {200: {"description": "A page for people", "content": {"text/html": {}}}}
_ANONYMOUS: dict[str, Any] = {"security": []}


@router.get(
    "/v1/unsubscribe/{token}",
    operation_id="ask_unsubscribe",
    response_class=HTMLResponse,
    responses=_PAGE,
    openapi_extra=_ANONYMOUS,
)
async def ask_unsubscribe(token: str, tx: Tx, runtime: OfRuntime) -> HTMLResponse:
    """The page behind the link in an e-mail: it asks first, for programs look at links too."""
    user_id = user_of(runtime.secret, token)
    return HTMLResponse(unsubscribe_page(await queries.locale(tx, user_id), done=False))


@router.post("/v1/unsubscribe/{token}", operation_id="unsubscribe", responses=_PAGE, openapi_extra=_ANONYMOUS)
@not_idempotent
async def unsubscribe(
    token: str, tx: Tx, runtime: OfRuntime, response: Response, accept: Annotated[str, Header()] = ""
) -> PreferencesOut:
    """Stop e-mails with one click (RFC 8058): no sign-in, any body; the link's token says whose."""
    user_id = user_of(runtime.secret, token)
    usecases.unsubscribe(tx, user_id)
    if "text/html" in accept:
        return HTMLResponse(unsubscribe_page(await queries.locale(tx, user_id), done=True))  # type: ignore[return-value]
    current = await queries.preferences(tx, user_id)
    return _preferences(Preferences(email=False, locale=current.locale, quiet_hours=current.quiet_hours))


def _of(row: Row, locale: str, read_at: datetime | None) -> NotificationOut:
    text = brief(row["kind"], locale, row["context"])
    return NotificationOut(
        id=row["id"],
        kind=row["kind"],
        title=text.title,
        body=text.body,
        created_at=row["created_at"],
        read_at=read_at,
        event=AboutOut(type=row["event_type"], subject=row["subject"]),
    )


def _quiet_hours(told: QuietHoursIn | None) -> QuietHours | None:
    if told is None:
        return None
    return QuietHours(time.fromisoformat(told.from_), time.fromisoformat(told.to), told.tz)


def _preferences(found: Preferences) -> PreferencesOut:
    quiet = found.quiet_hours
    return PreferencesOut.model_validate(
        {
            "locale": found.locale,
            "channels": {"email": found.email},
            "quiet_hours": quiet and {"from": f"{quiet.from_:%H:%M}", "to": f"{quiet.to:%H:%M}", "tz": quiet.tz},
        }
    )
