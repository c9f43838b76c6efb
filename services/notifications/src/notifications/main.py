"""The composition root: everything of notifications wired by hand."""

from __future__ import annotations

from datetime import timedelta

from chassis.app import Runtime, Service

from notifications import api, consumers
from notifications.channels.email import EmailChannel
from notifications.dispatcher import ContactBook, Mailer
from notifications.settings import Settings


def build() -> Service:
    """The service, from its environment."""
    settings = Settings()
    email = EmailChannel(settings.smtp_url.get_secret_value(), sender=settings.mail_from)

    async def mails(runtime: Runtime) -> None:
        await Mailer(runtime.database, email, public_url=str(settings.public_url), secret=runtime.secret).run()

    async def contacts(runtime: Runtime) -> None:
        token = settings.internal_token.get_secret_value()
        await ContactBook(runtime.database, identity_url=str(settings.identity_internal_url), token=token).run()

    return Service(
        name="notifications",
        settings=settings,
        routers=[api.router],
        consumers=[consumers.PEOPLE, consumers.events(message_lifetime=timedelta(hours=settings.message_lifetime_h))],
        background={"mails": mails, "contacts": contacts},
    )
