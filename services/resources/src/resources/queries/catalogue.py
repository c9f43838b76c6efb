"""Partner catalogues as callers see them, by plain select: loads with their progress, rejects, products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from chassis.access import Principal
from chassis.database import Row, Transaction
from sqlalchemy import Select, and_, select, tuple_

from resources.catalogue.plain import plain
from resources.domain import LoadNotFound
from resources.tables import LOADS, PRODUCTS

_C, _P = LOADS.c, PRODUCTS.c
ROOT_CHARACTERS = 8
COMPANIES_MAX = 1000  # of one caller: a chain has a CNPJ for each of its shops

_OWN = "SELECT organization_id, cnpj FROM access_organizations WHERE organization_id = ANY($1::uuid[]) AND cnpj IS NOT NULL"
_VERIFIED = "SELECT status = 'verified' FROM access_organizations WHERE organization_id = $1"
_COMPANIES = "SELECT cnpj FROM catalogue_feeds WHERE left(cnpj, 8) = ANY($1::text[]) OR cnpj = ANY($1::text[]) ORDER BY cnpj LIMIT $2"
_MOVING = """SELECT load_id, sum(rows) AS read, count(*) AS chunks, count(*) FILTER (WHERE status = 'done') AS done,
    count(*) FILTER (WHERE status = 'failed') AS failed,
    coalesce(sum(rows) FILTER (WHERE status IN ('done', 'failed')), 0) AS processed, sum(rejected) AS rejected,
    sum(duplicates) AS duplicates FROM catalogue_chunks WHERE load_id = ANY($1::uuid[]) GROUP BY load_id"""
_REJECTS = """SELECT row, pointer, code, detail, raw FROM catalogue_rejects
WHERE load_id = $1 AND row > $2 ORDER BY row LIMIT $3"""


@dataclass(frozen=True)
class Company:
    """What an organization may load for: whole CNPJs or their roots; `own` is its own CNPJ."""

    organization_id: UUID
    roots: tuple[str, ...]
    own: str | None

    def covers(self, cnpj: str) -> bool:
        """The CNPJ is one of these, or has one of these roots."""
        return any(cnpj.startswith(root) for root in self.roots)


@dataclass(frozen=True)
class LoadFilter:
    """What a list of loads is narrowed to."""

    cnpj: str | None = None
    mode: Sequence[str] = ()
    status: Sequence[str] = ()


@dataclass(frozen=True)
class ProductFilter:
    """What a list of products is narrowed to; `q` are words that the name has, whatever their accents and case."""

    cnpj: str | None = None
    category: Sequence[str] = ()
    gtin: str | None = None
    q: str | None = None
    price_min: int | None = None
    price_max: int | None = None
    in_stock: bool | None = None
    active: bool = True


async def companies(tx: Transaction, principal: Principal) -> list[Company]:
    """What the caller manages or is a key of, and which CNPJs each may load for."""
    managed = [each for each in principal.memberships if principal.manages(each)]
    own = {row["organization_id"]: row["cnpj"] for row in await tx.fetch(_OWN, managed)}
    return [Company(each, _roots(principal, own.get(each)), own.get(each)) for each in managed]


def _roots(principal: Principal, own: str | None) -> tuple[str, ...]:
    if principal.cnpjs:
        return principal.cnpjs
    return () if own is None else (own[:ROOT_CHARACTERS],)


async def is_verified(tx: Transaction, organization_id: UUID) -> bool:
    """The organization stands as verified."""
    return bool(await tx.fetchval(_VERIFIED, organization_id))


async def load(tx: Transaction, principal: Principal, load_id: UUID) -> dict[str, Any]:
    """A load of the caller's organizations: its state, and how far it came."""
    row = await tx.fetchrow(_loads(principal).where(_C.id == load_id))
    if row is None:
        raise LoadNotFound
    return (await _with_progress(tx, [row]))[0]


async def loads(
    tx: Transaction, principal: Principal, wanted: LoadFilter, *, limit: int, before: UUID | None
) -> list[dict[str, Any]]:
    """The newest loads first; one more than `limit` when there are more."""
    query = _loads(principal).order_by(_C.id.desc()).limit(limit + 1)
    if wanted.cnpj is not None:
        query = query.where(_C.cnpj == wanted.cnpj)
    if wanted.mode:
        query = query.where(_C.mode.in_(wanted.mode))
    if wanted.status:
        query = query.where(_C.status.in_(wanted.status))
    if before is not None:
        query = query.where(_C.id < before)
    return await _with_progress(tx, await tx.fetch(query))


async def moved(tx: Transaction, load_id: UUID) -> dict[str, Any] | None:
    """How far the chunks of a load came; None when it has none."""
    row = await tx.fetchrow(_MOVING, [load_id])
    return None if row is None else dict(row)


async def _with_progress(tx: Transaction, rows: Sequence[Row]) -> list[dict[str, Any]]:
    moving = {row["load_id"]: dict(row) for row in await tx.fetch(_MOVING, [row["id"] for row in rows])} if rows else {}
    return [{"state": row["state"], "moved": moving.get(row["id"])} for row in rows]


def _loads(principal: Principal) -> Select[Any]:
    query = select(_C.id, _C.state)
    return query if principal.is_coordinator else query.where(_C.organization_id.in_(list(principal.memberships)))


async def rejects(tx: Transaction, load_id: UUID, *, after: int, limit: int) -> list[Row]:
    """The next rows of a load that were refused, each with its reason."""
    return await tx.fetch(_REJECTS, load_id, after, limit)


async def products(
    tx: Transaction, principal: Principal, wanted: ProductFilter, *, limit: int, after: tuple[str, str] | None
) -> list[Row]:
    """Products of the caller's companies by company and key; one more than `limit` when there are more."""
    query = select(PRODUCTS).where(_P.active if wanted.active else ~_P.active)
    query = _narrowed(query.order_by(_P.cnpj, _P.key).limit(limit + 1), wanted)
    if not principal.is_coordinator:
        query = query.where(_P.cnpj.in_(await _companies_of(tx, principal)))
    if after is not None:
        query = query.where(tuple_(_P.cnpj, _P.key) > after)
    return await tx.fetch(query)


async def _companies_of(tx: Transaction, principal: Principal) -> list[str]:
    roots = sorted({root for company in await companies(tx, principal) for root in company.roots})
    return [row["cnpj"] for row in await tx.fetch(_COMPANIES, roots, COMPANIES_MAX)]


def _narrowed(query: Select[Any], wanted: ProductFilter) -> Select[Any]:
    """Only what fits; a name has every word that was asked for."""
    rules = []
    if wanted.cnpj is not None:
        rules.append(_P.cnpj == wanted.cnpj)
    if wanted.category:
        rules.append(_P.category.in_(wanted.category))
    if wanted.gtin is not None:
        rules.append(_P.gtin == wanted.gtin)
    if wanted.price_min is not None:
        rules.append(_P.price_cents >= wanted.price_min)
    if wanted.price_max is not None:
        rules.append(_P.price_cents <= wanted.price_max)
    if wanted.in_stock is not None:
        rules.append(_P.stock > 0 if wanted.in_stock else _P.stock == 0)
    rules += [_P.plain_name.like(_like(word)) for word in plain(wanted.q or "").split()]
    return query.where(and_(*rules)) if rules else query


def _like(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
