"""The composition root: everything of deliveries wired by hand."""

from __future__ import annotations

from chassis.app import Service

from deliveries import api, consumers
from deliveries.domain import ClaimOverlaps
from deliveries.repository import DELIVERIES
from deliveries.settings import Settings
from deliveries.usecases import Policy


def build() -> Service:
    """The service, from its environment."""
    settings = Settings()
    policy = Policy.of(settings)
    return Service(
        name="deliveries",
        settings=settings,
        routers=api.ROUTERS,
        consumers=consumers.consumers(policy),
        streams={"delivery": DELIVERIES},
        timers=consumers.timers(policy),
        constraints={"deliveries_volunteer_free": ClaimOverlaps},
    )
