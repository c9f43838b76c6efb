"""API keys of partners' systems."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from chassis.pagination import Page, PageAsked
from chassis.routing import Now, Person, Tx, api_router
from chassis.wire import Body, Integer, Name, UtcMoment, View
from contracts.values import KeyEnvironment, Scope
from fastapi import Response
from pydantic import Field, StringConstraints

from identity import domain, queries
from identity.api.inputs import EachOnce, position
from identity.usecases import api_keys

router = api_router("api-keys")

CnpjOrRoot = Annotated[str, StringConstraints(min_length=8, max_length=18, pattern=r"^[0-9A-Z./-]+$")]


class ApiKeyIn(Body):
    """A key to issue; `cnpjs` are whole CNPJs or roots it may load for, the organization's own root when left out."""

    organization_id: UUID
    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=10), *EachOnce]
    env: KeyEnvironment
    cnpjs: Annotated[list[CnpjOrRoot], Field(min_length=1, max_length=500)] | None = None
    rate_per_minute: Annotated[Integer, Field(ge=1, le=1_000_000)] | None = None
    expires_at: UtcMoment | None = None


class ApiKeyOut(View):
    """A key as it may be shown: `prefix` is its beginning, the rest is known to its holder only."""

    id: UUID
    organization_id: UUID
    name: str
    status: Literal["active", "revoked", "expired"]
    env: KeyEnvironment
    prefix: str
    scopes: list[Scope]
    cnpjs: list[str]
    rate_per_minute: int | None
    expires_at: UtcMoment | None
    issued_at: UtcMoment


class ApiKeyShownOut(ApiKeyOut):
    """A key with its secret, which is shown this once."""

    key: str


_PLAIN = (
    "id", "organization_id", "name", "env", "scopes", "cnpjs", "rate_per_minute", "expires_at", "issued_at",
)  # fmt: skip


def _shown(issued: tuple[domain.ApiKey, str], response: Response) -> ApiKeyShownOut:
    response.headers["Cache-Control"] = "no-store"
    key, secret = issued
    plain = {name: getattr(key, name) for name in _PLAIN}
    return ApiKeyShownOut.model_validate({**plain, "status": key.status, "prefix": key.secret.prefix, "key": secret})


def _masked(row: Any) -> ApiKeyOut:
    expired = row["status"] == "active" and row["expires_at"] is not None and row["expires_at"] <= datetime.now(UTC)
    return ApiKeyOut.model_validate({**dict(row), "status": "expired" if expired else row["status"]})


@router.post("/v1/api-keys", status_code=201, operation_id="issue_api_key")
async def issue_api_key(body: ApiKeyIn, tx: Tx, principal: Person, now: Now, response: Response) -> ApiKeyShownOut:
    """Issue a key for an organization that you manage; `key` is shown this once."""
    wanted: api_keys.NewApiKey = {
        "name": body.name,
        "env": domain.KeyEnvironment(body.env),
        "scopes": tuple(body.scopes),
        "cnpjs": None if body.cnpjs is None else tuple(body.cnpjs),
        "rate_per_minute": body.rate_per_minute,
        "expires_at": body.expires_at,
    }
    issued = await api_keys.issue(tx, principal, organization_id=body.organization_id, wanted=wanted, now=now)
    return _shown(issued, response)


@router.get("/v1/api-keys", operation_id="list_api_keys")
async def list_api_keys(
    tx: Tx, paging: PageAsked, principal: Person, organization_id: UUID | None = None
) -> Page[ApiKeyOut]:
    """The keys of organizations that you manage, newest first, without their secrets."""
    managed = [id_ for id_ in principal.memberships if principal.manages(id_)]
    before = position(paging.position)
    rows = await queries.api_keys(tx, managed, organization_id=organization_id, limit=paging.limit, before=before)
    return paging.page([_masked(row) for row in rows], [[row["id"]] for row in rows])


@router.post("/v1/api-keys/{api_key_id}/rotate", operation_id="rotate_api_key")
async def rotate_api_key(api_key_id: UUID, tx: Tx, principal: Person, now: Now, response: Response) -> ApiKeyShownOut:
    """Give a key a new secret, shown this once; the old one stops counting."""
    return _shown(await api_keys.rotate(tx, principal, api_key_id, now=now), response)


@router.delete("/v1/api-keys/{api_key_id}", status_code=204, operation_id="revoke_api_key")
async def revoke_api_key(api_key_id: UUID, tx: Tx, principal: Person, now: Now) -> None:
    """Revoke a key; it is refused everywhere within 2 s."""
    await api_keys.revoke(tx, principal, api_key_id, now=now)
