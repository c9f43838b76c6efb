"""Loads and saves matches; finds the open lines that a batch could serve, by an index and never by a scan."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.database import Row, Transaction
from chassis.repository import Repository

from resources.domain import (
    MATCH_EVENTS,
    OPEN_MAX,
    RADIUS_M,
    RECENTLY,
    Candidate,
    LineId,
    Match,
    MatchNotFound,
    MatchStatus,
    Offer,
    OrganizationId,
    PlaceId,
    RequestId,
    Standing,
    cells_around,
)
from resources.public_events import announce_match
from resources.repository.requests import URGENCIES

# The most urgent open lines of each cell are looked at, and no others: a bound, wherever the batch is. No fewer than are
# asked at once: a batch whose needs are all in one cell would wait an hour with goods that somebody lacks.
PER_CELL = OPEN_MAX

# Once for lines that ask for a category and once for those that ask for the product itself: an index for each, in whose
# order the first ones are read. Who may have the goods is asked of those alone.
_LINES_OF_CELL = """(SELECT l.request_id, l.line_id, l.organization_id, l.place_id, l.urgency, l.needed, l.needed_by_at,
        l.needed - l.reserved - l.received - l.proposed AS open
    FROM request_lines l WHERE l.wanted AND {asks} AND l.unit = $4 AND l.cell = c.cell
        AND l.organization_id <> $5 AND (l.needed_by_at IS NULL OR l.needed_by_at > $6)
        AND NOT EXISTS (SELECT FROM matches m WHERE m.batch_id = $7 AND m.line_id = l.line_id
            AND m.status IN ('proposed', 'declined', 'expired'))
    ORDER BY l.urgency DESC, l.needed_by_at, l.line_id LIMIT $8)"""
_MAY_HAVE = """(SELECT p.lat, p.lon, p.people_served FROM access_places p, access_organizations o
    WHERE p.place_id = l.place_id AND o.organization_id = l.organization_id
        AND o.status = 'verified' AND 'receiving' = ANY(p.roles)
        AND (cardinality(p.accepts) = 0 OR $2 = ANY(p.accepts))
        AND NOT ($2 = ANY(p.stop_list) OR coalesce($3 = ANY(p.stop_list), false)) LIMIT 1)"""
WANTED = f"""SELECT l.*, p.* FROM unnest($1::bigint[]) AS c(cell) CROSS JOIN LATERAL (
    {_LINES_OF_CELL.format(asks="l.gtin IS NULL AND l.category = $2")}
    UNION ALL {_LINES_OF_CELL.format(asks="l.gtin IS NOT NULL AND l.gtin = $3")}) AS l
CROSS JOIN LATERAL {_MAY_HAVE} AS p"""
# Whose turn it was: what is proposed, and what is promised or was received; an accepted match is a reservation.
_TURNS = """SELECT organization_id, count(*) AS turns FROM (
    SELECT organization_id FROM matches
    WHERE organization_id = ANY($1::uuid[]) AND proposed_at > $2 AND status = 'proposed'
    UNION ALL SELECT organization_id FROM reservations
    WHERE organization_id = ANY($1::uuid[]) AND reserved_at > $2 AND status IN ('reserved', 'in_delivery', 'received')) AS t
GROUP BY organization_id"""

# The order in which rows are held wherever several are: requests, then their lines, then matches.
_HOLD_REQUESTS = "SELECT 1 FROM resource_requests WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
_HOLD_LINES = """SELECT line_id, CASE WHEN open THEN needed - reserved - received - proposed ELSE 0 END AS open
FROM request_lines WHERE request_id = ANY($1::uuid[]) AND line_id = ANY($2::uuid[]) ORDER BY request_id, line_id FOR UPDATE"""
_PROPOSED = """UPDATE request_lines l SET proposed = l.proposed + x.quantity
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS x (request_id, line_id, quantity)
WHERE l.request_id = x.request_id AND l.line_id = x.line_id"""
_RELEASED = "UPDATE request_lines SET proposed = proposed - $3 WHERE request_id = $1 AND line_id = $2"

# What still takes of a batch: proposals, and promises that no delivery carries yet.
_STANDING = """SELECT m.id, m.request_id, m.line_id, m.status, m.quantity, m.expires_at, o.status = 'verified' AS wanted
FROM matches m LEFT JOIN reservations r ON r.id = m.reservation_id
LEFT JOIN access_organizations o ON o.organization_id = m.organization_id
WHERE m.batch_id = $1 AND (m.status = 'proposed' OR (m.status = 'accepted' AND r.status = 'reserved'))
ORDER BY (m.status = 'accepted') DESC, m.score DESC, m.id"""
_OPEN_FOR = (
    """SELECT id, line_id FROM matches WHERE request_id = $1 AND proposed_line_id IS NOT NULL ORDER BY score DESC, id"""
)
_BATCHES_OF = """SELECT DISTINCT batch_id FROM matches
WHERE (organization_id = $1 OR provider_organization_id = $1) AND status IN ('proposed', 'accepted') LIMIT $2"""
_RESERVED_AS = "SELECT DISTINCT batch_id FROM matches WHERE reservation_id = ANY($1::uuid[])"
_WHERE = "SELECT request_id, line_id, batch_id FROM matches WHERE id = $1"


def _columns(match: Match) -> dict[str, Any]:
    return {
        "batch_id": match.batch_id,
        "request_id": match.request_id,
        "line_id": match.line_id,
        "proposed_line_id": match.line_id if match.is_open else None,
        "provider_organization_id": match.provider_id,
        "organization_id": match.organization_id,
        "quantity": match.quantity,
        "status": match.status,
        "score": match.score,
        "proposed_at": match.proposed_at,
        "expires_at": match.expires_at,
        "reservation_id": match.reservation_id,
    }


MATCHES: Repository[Match] = Repository(
    table="matches",
    aggregate=Match,
    events=MATCH_EVENTS,
    columns=_columns,
    announce=announce_match,
    not_found=MatchNotFound,
)


async def wanted(tx: Transaction, offer: Offer, *, now: datetime) -> list[Candidate]:
    """Open lines that ask for such goods within the radius: of each cell the most urgent ones, in no order."""
    cells = cells_around(offer.lat, offer.lon, RADIUS_M)
    rows = await tx.fetch(
        WANTED, cells, offer.category, offer.gtin, offer.unit, offer.organization_id, now, offer.batch_id, PER_CELL
    )
    turns = await _recent_turns(tx, {row["organization_id"] for row in rows}, since=now - RECENTLY)
    return [_candidate(row, turns.get(row["organization_id"], 0)) for row in rows]


async def _recent_turns(tx: Transaction, organizations: Collection[UUID], *, since: datetime) -> dict[UUID, int]:
    rows = await tx.fetch(_TURNS, sorted(organizations), since) if organizations else []
    return {row["organization_id"]: row["turns"] for row in rows}


def _candidate(row: Row, recent: int) -> Candidate:
    return Candidate(
        request_id=RequestId(row["request_id"]),
        line_id=LineId(row["line_id"]),
        organization_id=OrganizationId(row["organization_id"]),
        place_id=PlaceId(row["place_id"]),
        lat=row["lat"],
        lon=row["lon"],
        people_served=row["people_served"],
        urgency=URGENCIES[row["urgency"]],
        needed=row["needed"],
        open=row["open"],
        needed_by_at=row["needed_by_at"],
        recent=recent,
    )


async def hold_lines(tx: Transaction, lines: Sequence[tuple[UUID, UUID]]) -> dict[UUID, int]:
    """(request, line)s held until the end of the transaction; what of each is neither covered nor proposed."""
    requests, ids = sorted({request_id for request_id, _ in lines}), [line_id for _, line_id in lines]
    await tx.fetch(_HOLD_REQUESTS, requests)
    return {row["line_id"]: row["open"] for row in await tx.fetch(_HOLD_LINES, requests, ids)}


def propose(tx: Transaction, matches: Sequence[Match], *, now: datetime) -> None:
    """Queue new matches, and that their lines are proposed as much more; the lines are held."""
    tx.write(
        _PROPOSED,
        [match.request_id for match in matches],
        [match.line_id for match in matches],
        [match.quantity for match in matches],
    )
    tx.end_step()
    for match in matches:
        MATCHES.save(tx, match, now=now)
        tx.end_step()  # one shape, so all of them are one round trip


def end(tx: Transaction, match: Match, *, now: datetime) -> None:
    """Queue a proposal that ended, and that its line is proposed as much less."""
    if match.pending:
        MATCHES.save(tx, match, now=now)
        tx.write(_RELEASED, match.request_id, match.line_id, match.quantity)


async def standing(tx: Transaction, batch_id: UUID) -> list[Standing]:
    """What takes of a batch; promises first, then the best proposals. `wanted`: its organization is verified now."""
    return [
        Standing(**{**dict(row), "status": MatchStatus(row["status"]), "wanted": bool(row["wanted"])})
        for row in await tx.fetch(_STANDING, batch_id)
    ]


async def open_for(tx: Transaction, request_id: UUID) -> list[Match]:
    """What is proposed to a request, the best first; held when the transaction locks (the request is held already)."""
    rows = await tx.fetch(_OPEN_FOR, request_id)
    if rows and tx.locking:
        await hold_lines(tx, [(request_id, row["line_id"]) for row in rows])
    return [await MATCHES.get(tx, row["id"]) for row in rows]


async def where(tx: Transaction, match_id: UUID) -> Row:
    """A match's request_id, line_id and batch_id, which never change."""
    row = await tx.fetchrow(_WHERE, match_id)
    if row is None:
        raise MatchNotFound
    return row


async def batches_of(tx: Transaction, organization_id: UUID, *, limit: int) -> list[UUID]:
    """Batches of which something is proposed or promised to the organization or by it."""
    return [row["batch_id"] for row in await tx.fetch(_BATCHES_OF, organization_id, limit)]


async def batches_reserved(tx: Transaction, reservations: Collection[UUID]) -> list[UUID]:
    """Batches of which these reservations are accepted matches."""
    return [row["batch_id"] for row in await tx.fetch(_RESERVED_AS, list(reservations))]
