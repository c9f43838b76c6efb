"""The process manager of a batch: proposes what is free to open needs, takes back what is not there, goes on when answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias
from uuid import UUID

from chassis.database import Transaction
from chassis.kernel import DomainError, new_id
from chassis.processes import Process, ProcessKind

from resources import repository
from resources.domain import (
    OPEN_MAX,
    PROPOSALS_MAX,
    RADIUS_M,
    Match,
    MatchId,
    ReservationState,
    Standing,
    Status,
    Supply,
    cells_around,
    dealt,
    next_moment,
    ranked,
    time_to_answer,
    to_end,
)
from resources.repository import MATCHES, REQUESTS
from resources.usecases.looking import look_again
from resources.usecases.rights import place_of
from resources.usecases.saving import save

BATCHES_LOOKED_AT = 20  # for one need


class MatchSettings(Protocol):
    """What the policy takes of the service's settings."""

    @property
    def match_answer_s(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long an answer may take."""

    answer: timedelta

    @classmethod
    def of(cls, settings: MatchSettings) -> Policy:
        """From the environment."""
        return cls(answer=timedelta(seconds=settings.match_answer_s))


@dataclass
class Matching:
    """What a process keeps besides its steps: how many matches it proposed."""

    proposed: int = 0


Run: TypeAlias = Process[Matching]

MATCHING: ProcessKind[Matching] = ProcessKind("match-batch", Matching)


async def begin(tx: Transaction, batch_id: UUID, *, run: int, now: datetime) -> None:
    """A batch is ready: its process begins, once."""
    process = await MATCHING.begin(tx, batch_id, run=run, state=Matching(), deadline=now, now=now)
    if process is not None:
        MATCHING.save(tx, process, now=now)


async def look(tx: Transaction, batch_id: UUID, *, now: datetime) -> None:
    """The process goes on now, if it still runs."""
    process = await MATCHING.running(tx, batch_id)
    if process is not None and (process.deadline is None or process.deadline > now):
        process.deadline = now
        MATCHING.save(tx, process, now=now)


async def look_for_need(tx: Transaction, request_id: UUID, *, now: datetime) -> None:
    """Ready batches near a request that lacks something look at it."""
    request = await REQUESTS.find(tx, request_id)
    place = None if request is None else await place_of(tx, request.place_id)
    if request is None or place is None or request.status is not Status.OPEN:
        return
    cells, found = cells_around(place.lat, place.lon, RADIUS_M), dict[UUID, None]()
    for kind in {(line.category, line.gtin, line.unit) for line in request.lines.values() if line.uncovered}:
        category, gtin, unit = kind
        found |= dict.fromkeys(
            await repository.batches_near(
                tx, category=category, gtin=gtin, unit=unit, cells=cells, limit=BATCHES_LOOKED_AT
            )
        )
    for batch_id in sorted(found)[:BATCHES_LOOKED_AT]:
        look_again(tx, batch_id, because=f"{request_id}:{request.version}", now=now)


async def pursue(policy: Policy, tx: Transaction, process: Run, now: datetime) -> None:
    """One move: take back what cannot be kept, or propose what is free; then wait for the next moment that matters.

    A move either ends matches or proposes some, so that rows are held in one order: requests, lines, matches.
    """
    supply = await repository.hold_supply(tx, process.key)
    if supply is None:
        process.end("batch-unknown")
        return
    standing = await repository.standing(tx, process.key)
    ending = to_end(supply, standing, now=now)
    await _end(tx, process, ending, now)
    if supply.is_over:
        process.end(f"batch-{supply.status}")
    elif ending:
        process.deadline = now
    else:
        made = await _propose(policy, tx, process, supply, standing, now)
        answers = [each.expires_at for each in standing if each.is_open] + [each.expires_at for each in made]
        process.deadline = next_moment(supply, answers, now=now)


async def call_off(tx: Transaction, process: Run, error: DomainError, now: datetime) -> None:
    """What was proposed and promised is taken back."""
    standing = await repository.standing(tx, process.key)
    await _end(tx, process, [(each, error.slug) for each in standing], now)


# -- what cannot be kept -----------------------------------------------------------------------------------------------


async def _end(tx: Transaction, process: Run, ending: Sequence[tuple[Standing, str]], now: datetime) -> None:
    """End matches; promises that they became are free again."""
    if ending:
        await repository.hold_lines(tx, [(each.request_id, each.line_id) for each, _ in ending])
    for each, reason in ending:
        match = await MATCHES.get(tx, each.id)
        if match.is_open:
            match.expire(now=now)
            if match.is_open:
                match.withdraw(reason=reason, now=now)
            repository.end(tx, match, now=now)
        else:
            await _release(tx, match, reason, now)
        process.take(f"end:{each.id}", now=now, reason=reason)
        await tx.flush()


async def _release(tx: Transaction, match: Match, reason: str, now: datetime) -> None:
    """An accepted match is withdrawn with its reservation, unless that is on its way or has ended."""
    if match.reservation_id is None:
        return
    request = await REQUESTS.get(tx, match.request_id)
    if request.reservations[match.reservation_id].state is not ReservationState.RESERVED:
        return
    match.withdraw(reason=reason, now=now)
    MATCHES.save(tx, match, now=now)
    request.cancel_reservation(match.reservation_id, reason=reason)
    await save(tx, request, now=now)


# -- what is free ------------------------------------------------------------------------------------------------------


async def _propose(
    policy: Policy, tx: Transaction, process: Run, supply: Supply, standing: Sequence[Standing], now: datetime
) -> list[Match]:
    """Matches of what is free with the best open needs, of each no more than is lacked now that its line is held."""
    offer, state = supply.offer, process.state
    places = min(OPEN_MAX - sum(each.is_open for each in standing), PROPOSALS_MAX - state.proposed)
    if offer is None or places < 1 or not supply.can_be_proposed(now):
        return []
    order = ranked(offer, await repository.wanted(tx, offer, now=now), now=now)
    shares = dealt(offer, order, proposals_max=places)
    lines = [(each.candidate.request_id, each.candidate.line_id) for each, _ in shares]
    room = await repository.hold_lines(tx, lines) if lines else {}
    expires_at = now + time_to_answer(policy.answer, left=supply.ends_at - now)
    made = []
    for chosen, wanted in shares:
        quantity = min(wanted, room.get(chosen.candidate.line_id, 0))
        if quantity < 1:  # covered, or proposed something else, since the candidates were read
            continue
        match_id = MatchId(new_id())
        made.append(
            Match.propose(match_id, offer=offer, chosen=chosen, quantity=quantity, expires_at=expires_at, now=now)
        )
        process.take(f"propose:{match_id}", now=now, quantity=quantity, score=chosen.score)
    state.proposed += len(made)
    if made:
        repository.propose(tx, made, now=now)
    return made
