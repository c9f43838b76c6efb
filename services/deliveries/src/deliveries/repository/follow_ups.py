"""Loads and saves what was said about a delivery."""

from __future__ import annotations

from typing import Any

from chassis.repository import Repository

from deliveries.domain.follow_ups import FOLLOW_UP_EVENTS, FollowUp
from deliveries.public_events import announce_follow_up


def _columns(follow_up: FollowUp) -> dict[str, Any]:
    return {"delivery_id": follow_up.delivery_id}


FOLLOW_UPS = Repository(
    table="follow_ups",
    aggregate=FollowUp,
    events=FOLLOW_UP_EVENTS,
    columns=_columns,
    announce=announce_follow_up,
)
