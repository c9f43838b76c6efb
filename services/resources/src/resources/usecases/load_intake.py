"""Takes a catalogue in: whose it is, whether it came before, and the load that it begins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from chassis.access import Principal
from chassis.database import Transaction
from chassis.kernel import Invalid
from contracts.values import cnpj_is_valid

from resources import queries, repository
from resources.domain import (
    CatalogueLoad,
    ForeignCnpj,
    LoadId,
    LoadMode,
    LoadStatus,
    OrganizationId,
    Payload,
    SequenceTooLow,
    UserId,
)
from resources.queries.catalogue import ROOT_CHARACTERS
from resources.repository import LOADS
from resources.usecases.rights import OrganizationNotVerified

LOADS_HINT = "catalogue-loads"
CHUNKS_HINT = "catalogue-chunks"
CHUNKS_CONSUMER = "chunks"
_PUNCTUATION = str.maketrans("", "", "./-")


async def company_for(tx: Transaction, principal: Principal, told: str | None) -> tuple[UUID, str]:
    """(organization, CNPJ) that the caller loads for: the one told, or the only one that the caller's key has.

    Raises `Invalid` for what is no CNPJ, `ForeignCnpj` outside the key's roots, `OrganizationNotVerified`.
    """
    owners = await queries.companies(tx, principal)
    cnpj = _only_company(owners) if told is None else told.translate(_PUNCTUATION).upper()
    if not cnpj_is_valid(cnpj):
        raise Invalid("a CNPJ is 14 characters with two check digits", pointer="header:x-cnpj")
    owner = next((each for each in owners if each.covers(cnpj)), None)
    if owner is None:
        raise ForeignCnpj("not a company of yours")
    if not await queries.is_verified(tx, owner.organization_id):
        raise OrganizationNotVerified
    return owner.organization_id, cnpj


def _only_company(owners: Sequence[queries.Company]) -> str:
    """The one whole CNPJ that the caller has; or, of roots alone, the organization's own."""
    whole = {root for owner in owners for root in owner.roots if len(root) > ROOT_CHARACTERS}
    own = {owner.own for owner in owners if owner.own is not None and owner.covers(owner.own)}
    found = whole or own
    if len(found) != 1:
        raise Invalid("say for which company", pointer="header:x-cnpj")
    return found.pop()


async def receive_load(
    tx: Transaction, load_id: UUID, *, organization_id: UUID, cnpj: str, mode: LoadMode, payload: Payload,
    sequence: int | None, received_by: UUID, now: datetime,
) -> tuple[CatalogueLoad, bool]:  # fmt: skip
    """The load of a payload that is safe, and whether it is new: the newest payload once more is the same load."""
    feed = await repository.hold_feed(tx, cnpj)
    newest = feed.newest[mode]
    if newest is not None and newest[1] == payload.sha256:
        known = await LOADS.get(tx, newest[0])
        if known.status not in (LoadStatus.CANCELLED, LoadStatus.FAILED):
            return known, False
    if sequence is not None and feed.sequence is not None and sequence <= feed.sequence:
        raise SequenceTooLow(f"the last one was {feed.sequence}", last=feed.sequence)
    load = CatalogueLoad.receive(
        LoadId(load_id),
        organization_id=OrganizationId(organization_id),
        cnpj=cnpj,
        mode=mode,
        payload=payload,
        sequence=sequence,
        received_by=UserId(received_by),
        now=now,
    )
    await repository.accept(tx, load, now=now)
    tx.hints.add(LOADS_HINT)
    return load, True


def state_of(load: CatalogueLoad) -> dict[str, Any]:
    """The load as its row keeps it."""
    state: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(load))
    return state
