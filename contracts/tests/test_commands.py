"""Commands between services: closed, bounded, and to queues of consumers only."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from contracts.commands import CancelReplay, NoCommand, Replay, Resend, command_of

SUBJECT = UUID("01920000-0000-7000-8000-000000000001")
RESEND = {
    "kind": "resend",
    "queue": "q.batches.deliveries",
    "subject": str(SUBJECT),
    "from_version": 2,
    "to_version": 4,
}


@pytest.mark.parametrize(
    "command",
    [
        Resend(queue="q.batches.deliveries", subject=SUBJECT, from_version=1, to_version=1),
        Replay(queue="q.analytics.events.g2", replay_id=SUBJECT, aggregates=["batch", "delivery"]),
        CancelReplay(replay_id=SUBJECT),
    ],
)
def test_a_command_comes_as_it_was_given(command: Resend | Replay | CancelReplay) -> None:
    """Its bytes are read back as the same command."""
    assert command_of(command.model_dump_json().encode()) == command


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "drop"}, {"queue": "dlq.batches"}, {"queue": "ctl.batches"}, {"queue": ""}, {"from_version": 0},
        {"subject": "all"}, {"more": 1},
    ],
)  # fmt: skip
def test_what_is_no_command_is_said_to_be_none(change: dict[str, Any]) -> None:
    """Unknown kinds and members, queues that are no consumer's, versions that cannot be."""
    with pytest.raises(NoCommand):
        command_of(json.dumps(RESEND | change).encode())
