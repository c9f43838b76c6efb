"""The composition root: everything of deliveries wired by hand."""

from __future__ import annotations

from chassis.app import Service

from deliveries import api, consumers
from deliveries.domain import ClaimOverlaps
from deliveries.repository import DELIVERIES, FOLLOW_UPS, TASKS, TEMPLATES
from deliveries.settings import Settings
from deliveries.usecases import Following


def build() -> Service:
    """The service, from its environment."""
    settings = Settings()
    following = Following.of(settings)
    return Service(
        name="deliveries",
        settings=settings,
        routers=api.ROUTERS,
        consumers=consumers.consumers(following),
        streams={"delivery": DELIVERIES, "follow_up": FOLLOW_UPS, "task": TASKS, "task_templates": TEMPLATES},
        timers=consumers.timers(following),
        constraints={"deliveries_volunteer_free": ClaimOverlaps},
    )
