"""What can be done with endpoints, messages and attempts: load, decide, save."""

from webhooks.repository import Attempted, Claimed, StoredEvent
from webhooks.usecases.attempts import Target, claim, disable_gone, record, release, target_of, vault_of
from webhooks.usecases.endpoints import (
    ENDPOINTS_HINT,
    Change,
    NewEndpoint,
    change,
    create,
    delete,
    enable,
    pause,
    rotate_secret,
    send_test,
)
from webhooks.usecases.messages import MESSAGES_HINT, fan_out, retry

__all__ = [
    "ENDPOINTS_HINT",
    "MESSAGES_HINT",
    "Attempted",
    "Change",
    "Claimed",
    "NewEndpoint",
    "StoredEvent",
    "Target",
    "change",
    "claim",
    "create",
    "delete",
    "disable_gone",
    "enable",
    "fan_out",
    "pause",
    "record",
    "release",
    "retry",
    "rotate_secret",
    "send_test",
    "target_of",
    "vault_of",
]
