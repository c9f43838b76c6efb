"""A match from its proposal to its end, without I/O: given, when, then."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from chassis.kernel import Invalid, InvalidTransition
from resources.domain import (
    MATCH_ALLOWED,
    MATCH_EVENTS,
    AnswerTooLate,
    Match,
    MatchId,
    MatchStatus,
    ReservationId,
    UserId,
)

from services.resources.tests.test_ranking import HOUR, NOW, a_candidate, an_offer, first_of

MATCH, PROMISE, ANA = MatchId(UUID(int=70)), ReservationId(UUID(int=71)), UserId(UUID(int=72))


def a_match(quantity: int = 30) -> Match:
    """A proposal to be answered within an hour."""
    chosen = first_of([a_candidate()])
    return Match.propose(MATCH, offer=an_offer(), chosen=chosen, quantity=quantity, expires_at=NOW + HOUR, now=NOW)


COMMANDS: dict[str, Callable[[Match], None]] = {
    "accept": lambda match: match.accept(PROMISE, accepted_by=ANA, now=NOW),
    "decline": lambda match: match.decline(reason="test", declined_by=ANA, now=NOW),
}
BROUGHT: dict[MatchStatus, Callable[[Match], None]] = {
    MatchStatus.ACCEPTED: COMMANDS["accept"],
    MatchStatus.DECLINED: COMMANDS["decline"],
    MatchStatus.EXPIRED: lambda match: match.expire(now=NOW + HOUR),
    MatchStatus.WITHDRAWN: lambda match: match.withdraw(reason="batch-recalled", now=NOW),
}


def a_match_in(status: MatchStatus) -> Match:
    """A match brought to a status by commands."""
    match = a_match()
    if status in BROUGHT:
        BROUGHT[status](match)
    assert match.status is status
    return match


def test_every_command_of_the_table_is_tried() -> None:
    """None is left out below."""
    assert COMMANDS.keys() == {command for commands in MATCH_ALLOWED.values() for command in commands}


@pytest.mark.parametrize("status", list(MatchStatus))
@pytest.mark.parametrize("command", list(COMMANDS))
def test_the_table_decides_what_can_happen(status: MatchStatus, command: str) -> None:
    """A command the table allows works in that status; any other is refused, naming the status."""
    match = a_match_in(status)

    if command in MATCH_ALLOWED[status]:
        COMMANDS[command](match)
        return
    with pytest.raises(InvalidTransition) as refused:
        COMMANDS[command](match)

    assert refused.value.details == {"current_status": status, "allowed": MATCH_ALLOWED[status]}


@pytest.mark.parametrize("quantity", [0, 41])
def test_a_match_is_of_what_is_free_and_lacked(quantity: int) -> None:
    """Forty are free and lacked: neither nothing nor forty-one can be proposed."""
    with pytest.raises(Invalid):
        a_match(quantity)


def test_nobody_accepts_after_the_time_to_answer() -> None:
    """Timer or not; to decline is possible as long as it is proposed."""
    match = a_match()

    with pytest.raises(AnswerTooLate):
        match.accept(PROMISE, accepted_by=ANA, now=NOW + HOUR)
    match.decline(reason="test", declined_by=ANA, now=NOW + HOUR)

    assert match.status is MatchStatus.DECLINED


def test_timers_and_messages_record_nothing_when_they_come_late() -> None:
    """An early expiry, and an end after an end."""
    match = a_match()
    match.expire(now=NOW + HOUR - timedelta(seconds=1))
    assert match.is_open

    for status in (MatchStatus.DECLINED, MatchStatus.EXPIRED, MatchStatus.WITHDRAWN):
        ended = a_match_in(status)
        ended.expire(now=NOW + 2 * HOUR)
        ended.withdraw(reason="late", now=NOW)
        assert ended.status is status
        assert len(ended.pending) == 2


def test_an_accepted_match_can_be_withdrawn() -> None:
    """When the goods are gone; it keeps which reservation it was."""
    match = a_match_in(MatchStatus.ACCEPTED)

    match.withdraw(reason="batch-recalled", now=NOW)

    assert (match.status, match.reservation_id, match.reason) == (MatchStatus.WITHDRAWN, PROMISE, "batch-recalled")


@pytest.mark.parametrize("status", list(MatchStatus))
def test_every_event_survives_json(status: MatchStatus) -> None:
    """An event written as JSON and read back is equal, and folding what was read gives the same match."""
    match = a_match_in(status)

    read: list[Any] = [
        msgspec.json.decode(msgspec.json.encode(event), type=MATCH_EVENTS[type(event).__name__])
        for event in match.pending
    ]

    assert read == match.pending
    assert Match.fold(MATCH, read) == match
    assert msgspec.json.decode(msgspec.json.encode(match), type=Match) == match
