"""The composition root: everything of webhooks wired by hand."""

from __future__ import annotations

from chassis.app import Service

from webhooks import api, consumers, dispatcher, recoverer, retention, usecases
from webhooks.repository import ENDPOINTS
from webhooks.settings import Settings


def build() -> Service:
    """The service, from its environment."""
    return Service(
        name="webhooks",
        settings=Settings(),
        routers=api.ROUTERS,
        consumers=[consumers.EVENTS],
        background={"dispatcher": dispatcher.run, "recoverer": recoverer.run, "retention": retention.run},
        job_cancels={usecases.RECOVERY_KIND: usecases.cancel_recovery},
        streams={"endpoint": ENDPOINTS},
        daily_tables=[usecases.ATTEMPTS],
    )
