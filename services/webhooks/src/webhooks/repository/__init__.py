"""Loads and saves endpoints and messages."""

from webhooks.repository.endpoints import ENDPOINTS
from webhooks.repository.messages import (
    Attempted,
    Claimed,
    Listener,
    StoredEvent,
    claim,
    make_due,
    record,
    release,
    store,
)

__all__ = [
    "ENDPOINTS",
    "Attempted",
    "Claimed",
    "Listener",
    "StoredEvent",
    "claim",
    "make_due",
    "record",
    "release",
    "store",
]
