"""What leaves the building: mails to the SMTP server, questions to identity; each leased, done, and recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import httpx
from chassis.database import TRANSIENT_ERRORS, Database, Transaction
from chassis.dispatch import Dispatcher
from chassis.telemetry import continue_context, in_context, log
from pydantic import BaseModel, Field, ValidationError

from notifications import usecases
from notifications.channels import Channel, OutgoingMessage, Permanent, Transient
from notifications.domain import Contact, Mail, Outcome, Status, WantedContact, unsubscribe_token
from notifications.rendering import ContextMismatch, Rendered, render

MAILS_AT_ONCE = 10  # what a small mail server takes from one client
QUESTIONS_AT_ONCE = 4
QUESTION_TIMEOUT_S = 5.0
RECORD_RETRY_S = 0.5


class Mailer:
    """Sends what is due, each mail once: what this process has in hand it never claims again, however long that takes."""

    def __init__(self, database: Database, channel: Channel, *, public_url: str, secret: bytes) -> None:
        self._database = database
        self._channel = channel
        self._public_url = public_url.rstrip("/")
        self._secret = secret
        self._in_hand: set[UUID] = set()

    async def run(self) -> None:
        """Send until cancelled."""
        await Dispatcher(
            self._database, hint=usecases.MAILS, slots=MAILS_AT_ONCE, claim=self._claim, act=self._deliver
        ).run()

    async def _claim(self, limit: int) -> Sequence[Mail]:
        async with self._database.command() as tx:
            mails = await usecases.claim_mails(tx, limit, in_hand=sorted(self._in_hand))
        self._in_hand.update(mail.message_id for mail in mails)
        return mails

    async def _deliver(self, mail: Mail) -> None:
        context = continue_context(
            mail.traceparent, correlation_id=mail.correlation_id, causation_id=str(mail.message_id)
        )
        try:
            with in_context(context):
                started = time.monotonic()
                outcome = mail.before_sending(_now()) or await self._send(mail)
                await _record(self._database, lambda tx: usecases.record_mail(tx, mail, outcome))
                log.info(
                    "email.attempted", message_id=str(mail.message_id), kind=str(mail.kind), attempt=mail.attempt,
                    outcome=str(outcome.status), failure=outcome.failure,
                    duration_ms=round((time.monotonic() - started) * 1000, 1),
                )  # fmt: skip
        finally:
            self._in_hand.discard(mail.message_id)

    async def _send(self, mail: Mail) -> Outcome:
        url = f"{self._public_url}/v1/unsubscribe/{unsubscribe_token(self._secret, mail.user_id)}"
        try:
            rendered: Rendered = render(mail.kind, mail.locale, mail.context, unsubscribe_url=url)
            message = OutgoingMessage(mail.message_id, mail.address or "", rendered, unsubscribe_url=url)
            sent = await self._channel.send(message)
        except Transient as error:
            return mail.after_trouble(str(error), permanent=False, now=_now())
        except (Permanent, ContextMismatch) as error:
            return mail.after_trouble(str(error), permanent=True, now=_now())
        return Outcome(Status.SENT, reference=sent.reference)


class _ContactIn(BaseModel):
    email: str = Field(min_length=3, max_length=320)
    locale: str = Field(min_length=2, max_length=35)
    display_name: str | None = Field(default=None, max_length=500)


class ContactBook:
    """Asks identity for the addresses of people who will be written to; never to serve a request."""

    def __init__(self, database: Database, *, identity_url: str, token: str) -> None:
        self._database = database
        self._url = identity_url.rstrip("/")
        self._token = token

    async def run(self) -> None:
        """Ask until cancelled."""
        headers = {"Authorization": f"Bearer {self._token}"}
        limits = httpx.Limits(max_connections=QUESTIONS_AT_ONCE)
        async with httpx.AsyncClient(
            base_url=self._url, headers=headers, timeout=QUESTION_TIMEOUT_S, limits=limits, trust_env=False
        ) as client:
            await Dispatcher(
                self._database,
                hint=usecases.CONTACTS,
                slots=QUESTIONS_AT_ONCE,
                claim=self._claim,
                act=lambda wanted: self._ask(client, wanted),
            ).run()

    async def _claim(self, limit: int) -> Sequence[WantedContact]:
        async with self._database.command() as tx:
            return await usecases.claim_contacts(tx, limit)

    async def _ask(self, client: httpx.AsyncClient, wanted: WantedContact) -> None:
        try:
            contact = _contact(await client.get(f"/internal/v1/contacts/{wanted.user_id}"))
        except (httpx.HTTPError, ValidationError) as error:
            log.warning("contact.not_told", user_id=str(wanted.user_id), attempt=wanted.attempt, error=_told(error))
            await _record(self._database, lambda tx: usecases.ask_later(tx, wanted))
        else:
            await _record(self._database, lambda tx: usecases.record_contact(tx, wanted, contact))


def _contact(answer: httpx.Response) -> Contact | None:
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    answer.raise_for_status()
    told = _ContactIn.model_validate_json(answer.content)
    return Contact(email=told.email, locale=told.locale, display_name=told.display_name)


def _told(error: Exception) -> str:
    """What went wrong without what was answered: that may be personal."""
    return str(error) if isinstance(error, httpx.HTTPError) else type(error).__name__


async def _record(database: Database, write: Callable[[Transaction], None]) -> None:
    """Until the database has it: what was done outside must not be done again because it was forgotten."""
    while True:
        try:
            async with database.command() as tx:
                write(tx)
        except TRANSIENT_ERRORS as error:
            log.warning("dispatch.not_recorded", error=repr(error))
            await asyncio.sleep(RECORD_RETRY_S)
        else:
            return


def _now() -> datetime:
    return datetime.now(UTC)
