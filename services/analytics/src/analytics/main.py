"""The composition root: everything of analytics wired by hand."""

from __future__ import annotations

from chassis.app import Service

from analytics import api, consumers
from analytics.settings import Settings


def build() -> Service:
    """The service, from its environment."""
    return Service(
        name="analytics",
        settings=Settings(),
        routers=[api.router],
        consumers=[consumers.EVENTS],
    )
