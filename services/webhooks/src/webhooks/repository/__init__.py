"""Loads and saves endpoints, messages and how endpoints fare."""

from webhooks.repository.claims import claim, release, sweep
from webhooks.repository.endpoints import ENDPOINTS
from webhooks.repository.gates import Condition, conditions, heal, save_health
from webhooks.repository.messages import (
    Attempted,
    Claimed,
    Listener,
    StoredEvent,
    log,
    make_due,
    record,
    settle,
    store,
    wake_next,
)
from webhooks.repository.retention import ATTEMPTS, Forgetting, forget, give_up_held

__all__ = [
    "ATTEMPTS",
    "ENDPOINTS",
    "Attempted",
    "Claimed",
    "Condition",
    "Forgetting",
    "Listener",
    "StoredEvent",
    "claim",
    "conditions",
    "forget",
    "give_up_held",
    "heal",
    "log",
    "make_due",
    "record",
    "release",
    "save_health",
    "settle",
    "store",
    "sweep",
    "wake_next",
]
