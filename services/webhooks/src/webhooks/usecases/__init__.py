"""What can be done with endpoints, messages and attempts: load, decide, save."""

from webhooks.repository import Attempted, Claimed, StoredEvent
from webhooks.usecases.attempts import Target, claim, disable_gone, record, release, target_of
from webhooks.usecases.endpoints import (
    ENDPOINTS_HINT,
    Change,
    NewEndpoint,
    WithSecret,
    change,
    create,
    delete,
    enable,
    pause,
    public_keys,
    rotate_secret,
    send_test,
)
from webhooks.usecases.messages import MESSAGES_HINT, fan_out, retry
from webhooks.usecases.recovery import KIND as RECOVERY_KIND
from webhooks.usecases.recovery import (
    RECOVERY_HINT,
    advance_recovery,
    cancel_own_recovery,
    cancel_recovery,
    due_recovery,
    fail_recovery,
    recover,
    recovery_job,
)

__all__ = [
    "ENDPOINTS_HINT",
    "MESSAGES_HINT",
    "RECOVERY_HINT",
    "RECOVERY_KIND",
    "Attempted",
    "Change",
    "Claimed",
    "NewEndpoint",
    "StoredEvent",
    "Target",
    "WithSecret",
    "advance_recovery",
    "cancel_own_recovery",
    "cancel_recovery",
    "change",
    "claim",
    "create",
    "delete",
    "disable_gone",
    "due_recovery",
    "enable",
    "fail_recovery",
    "fan_out",
    "pause",
    "public_keys",
    "record",
    "recover",
    "recovery_job",
    "release",
    "retry",
    "rotate_secret",
    "send_test",
    "target_of",
]
