"""What can be done with endpoints, messages and attempts: load, decide, save."""

from webhooks.repository import ATTEMPTS, Attempted, Claimed, Forgetting, StoredEvent
from webhooks.usecases.attempts import (
    Target,
    claim,
    forget,
    give_up_held,
    record,
    record_trouble,
    sweep,
    target_of,
    tells_of_trouble,
    vault_of,
)
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
    "ATTEMPTS",
    "ENDPOINTS_HINT",
    "MESSAGES_HINT",
    "Attempted",
    "Change",
    "Claimed",
    "Forgetting",
    "NewEndpoint",
    "StoredEvent",
    "Target",
    "change",
    "claim",
    "create",
    "delete",
    "enable",
    "fan_out",
    "forget",
    "give_up_held",
    "pause",
    "record",
    "record_trouble",
    "retry",
    "rotate_secret",
    "send_test",
    "sweep",
    "target_of",
    "tells_of_trouble",
    "vault_of",
]
