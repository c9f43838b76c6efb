"""Dead letters: messages that had no effect and will not be tried again by themselves, kept with their reason."""

from __future__ import annotations

import hashlib
import re
import traceback
from datetime import datetime

import msgspec

from chassis.broker import Incoming
from chassis.database import Transaction
from chassis.kernel import new_id
from chassis.telemetry import DEAD_LETTERS, log

STACK_CHARS_MAX = 16_000
MESSAGE_CHARS_MAX = 2_000

_INSERT = """INSERT INTO dead_letters (id, consumer, queue, message_id, headers, body, reason, error_type, error_message,
    error_stack, fingerprint, attempts, first_failed_at, last_failed_at, status)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8, $9, $10, $11, $12, $13, $13, 'open')"""


def fingerprint_of(consumer: str, error: BaseException) -> str:
    """The same for the same fault: consumer, error class and the innermost place, without ids and numbers."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].name}" if frames else ""
    message = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "#", str(error))[:200]
    return hashlib.sha256(f"{consumer}|{type(error).__name__}|{place}|{message}".encode()).hexdigest()[:16]


def keep(
    tx: Transaction,
    message: Incoming,
    error: BaseException,
    *,
    consumer: str,
    queue: str,
    reason: str,
    attempts: int,
    now: datetime,
) -> None:
    """Queue the dead letter's row; the message may be acknowledged once this is committed."""
    tx.write(
        _INSERT,
        new_id(),
        consumer,
        queue,
        message.message_id,
        msgspec.json.encode(dict(message.headers), enc_hook=str).decode(),
        message.body,
        reason,
        type(error).__name__,
        str(error)[:MESSAGE_CHARS_MAX].replace("\x00", ""),
        "".join(traceback.format_exception(error))[-STACK_CHARS_MAX:].replace("\x00", ""),
        fingerprint_of(consumer, error),
        attempts,
        now,
    )
    DEAD_LETTERS.labels(consumer).inc()
    log.error("message.dead", consumer=consumer, message_id=message.message_id, reason=reason, error=repr(error))
