"""The composition root: everything of resources wired by hand."""

from __future__ import annotations

from chassis.app import Service

from resources import api, consumers, usecases
from resources.repository import REQUESTS
from resources.settings import Settings


def build() -> Service:
    """The service, from its environment."""
    return Service(
        name="resources",
        settings=Settings(),
        routers=api.ROUTERS,
        consumers=[consumers.DELIVERIES],
        streams={"resource_request": REQUESTS},
        timers={
            usecases.EXPIRE_REQUEST: consumers.expire_request,
            usecases.EXPIRE_RESERVATION: consumers.expire_reservation,
        },
    )
