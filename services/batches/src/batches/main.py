"""The composition root: everything of batches wired by hand."""

from __future__ import annotations

from chassis.app import Service

from batches import api, consumers, usecases
from batches.repository import BATCHES
from batches.settings import Settings


def build() -> Service:
    """The service, from its environment."""
    return Service(
        name="batches",
        settings=Settings(),
        routers=[api.router],
        consumers=[consumers.DELIVERIES],
        streams={"batch": BATCHES},
        timers={usecases.EXPIRE: consumers.expire},
    )
