"""What operators did: a row that commits with the act, and a log line."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from chassis.database import Transaction
from chassis.kernel import new_id
from chassis.telemetry import current_context, log

_RECORD = """INSERT INTO operator_acts (id, actor_id, what, filter, count, reason, job_id, request_id, at)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6, $7, $8, $9)"""


def record(
    tx: Transaction,
    what: str,
    *,
    actor_id: UUID,
    now: datetime,
    wanted: Mapping[str, Any],
    count: int,
    reason: str | None = None,
    job_id: UUID | None = None,
) -> None:
    """Queue the act's row: who did what to how many, chosen how, why, and in which request."""
    request_id, chosen = current_context().request_id, msgspec.json.encode(dict(wanted)).decode()
    tx.write(_RECORD, new_id(), actor_id, what, chosen, count, reason, job_id, request_id, now)
    log.info("operator.acted", what=what, operator_id=str(actor_id), count=count, reason=reason, job_id=job_id)
