"""The composition root: everything of resources wired by hand."""

from __future__ import annotations

from chassis.app import Service
from chassis.kernel import ConcurrentUpdate

from resources import api, consumers
from resources.repository import MATCHES, REQUESTS
from resources.settings import Settings
from resources.usecases import Policy


def build() -> Service:
    """The service, from its environment."""
    settings = Settings()
    return Service(
        name="resources",
        settings=settings,
        routers=api.ROUTERS,
        consumers=consumers.CONSUMERS,
        streams={"resource_request": REQUESTS, "match": MATCHES},
        timers=consumers.timers(Policy.of(settings)),
        # A proposal was made or answered meanwhile: the command runs again and finds it as it is.
        constraints={"request_lines_proposed": ConcurrentUpdate, "matches_line": ConcurrentUpdate},
    )
