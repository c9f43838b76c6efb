"""The composition root: everything of webhooks wired by hand."""

from __future__ import annotations

from chassis.app import Service

from webhooks import api, consumers, dispatcher, retention, usecases
from webhooks.repository import ENDPOINTS
from webhooks.settings import Settings


def build() -> Service:
    """The service, from its environment."""
    return Service(
        name="webhooks",
        settings=Settings(),
        routers=[api.router],
        consumers=[consumers.EVENTS],
        background={"dispatcher": dispatcher.run, "retention": retention.run},
        streams={"endpoint": ENDPOINTS},
        daily_tables=[usecases.ATTEMPTS],
    )
