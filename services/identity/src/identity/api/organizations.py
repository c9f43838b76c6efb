"""Organizations and who acts for them."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from chassis.pagination import Page, PageAsked
from chassis.routing import Admin, IfMatch, Now, Person, Tx, api_router, set_etag
from chassis.wire import Body, Name, UtcMoment, View
from contracts.values import MembershipRole, OrganizationKind
from fastapi import Query, Response
from pydantic import ConfigDict, Field, StringConstraints, model_validator

from identity import domain, queries
from identity.api.inputs import EachOnce, Email, Reader, ReasonIn, position
from identity.usecases import organizations

router = api_router("organizations")

Status = Literal["registered", "verified", "suspended", "closed"]
# As people write it: with or without punctuation. Its check digits are checked after its shape.
CnpjIn = Annotated[str, StringConstraints(min_length=14, max_length=18, pattern=r"^[0-9A-Z./-]+$")]


class OrganizationIn(Body):
    """An organization to register."""

    cnpj: CnpjIn
    legal_name: Name
    trade_name: Name | None = None
    kinds: Annotated[list[OrganizationKind], Field(min_length=1, max_length=5), *EachOnce]


class OrganizationOut(View):
    """An organization."""

    id: UUID
    version: int
    status: Status
    cnpj: str
    legal_name: str
    trade_name: str | None
    kinds: list[OrganizationKind]
    registered_at: UtcMoment


class MemberIn(Body):
    """Who shall act for the organization, named by `user_id` or by `email`, and as what."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["user_id"]}, {"required": ["email"]}]})

    user_id: UUID | None = None
    email: Email | None = None
    role: MembershipRole

    @model_validator(mode="after")
    def _one_of_both(self) -> MemberIn:
        if (self.user_id is None) == (self.email is None):
            raise ValueError("either user_id or email is needed")
        return self


class MemberGrantedOut(View):
    """Who acts for the organization now."""

    organization_id: UUID
    user_id: UUID
    role: MembershipRole


class MemberOut(View):
    """Somebody who acts for the organization."""

    user_id: UUID
    role: MembershipRole
    display_name: str | None


def _of(organization: domain.Organization, response: Response) -> OrganizationOut:
    set_etag(response, organization.version)
    return OrganizationOut.model_validate(organization)


@router.post("/v1/organizations", status_code=201, operation_id="register_organization")
async def register_organization(
    body: OrganizationIn, tx: Tx, principal: Person, now: Now, response: Response
) -> OrganizationOut:
    """Register an organization; you manage it at once, an admin verifies it."""
    organization = await organizations.register(
        tx,
        principal,
        cnpj=body.cnpj,
        legal_name=body.legal_name,
        trade_name=body.trade_name,
        kinds=tuple(domain.OrganizationKind(kind) for kind in body.kinds),
        now=now,
    )
    response.headers["Location"] = f"/v1/organizations/{organization.id}"
    return _of(organization, response)


@router.get("/v1/organizations", operation_id="list_organizations")
async def list_organizations(
    tx: Tx,
    paging: PageAsked,
    principal: Reader,
    status: Annotated[list[Status], Query(max_length=4)] = [],  # noqa: B006 - FastAPI copies defaults
) -> Page[OrganizationOut]:
    """Your organizations, newest first; admins list everybody's."""
    rows = await queries.organizations(
        tx, principal, status=status, limit=paging.limit, before=position(paging.position)
    )
    return paging.page([OrganizationOut.model_validate(dict(row)) for row in rows], [[row["id"]] for row in rows])


@router.get("/v1/organizations/{organization_id}", operation_id="get_organization")
async def get_organization(organization_id: UUID, tx: Tx, principal: Reader, response: Response) -> OrganizationOut:
    """One organization: a verified one, or your own."""
    row = await queries.organization(tx, principal, organization_id)
    set_etag(response, row["version"])
    return OrganizationOut.model_validate(dict(row))


@router.post("/v1/organizations/{organization_id}/verify", operation_id="verify_organization")
async def verify_organization(
    organization_id: UUID, tx: Tx, admin: Admin, now: Now, response: Response, if_match: IfMatch
) -> OrganizationOut:
    """Let an organization act, for the first time or again (admins)."""
    return _of(await organizations.verify(tx, organization_id, now=now, if_match=if_match), response)


@router.post("/v1/organizations/{organization_id}/suspend", operation_id="suspend_organization")
async def suspend_organization(
    organization_id: UUID,
    tx: Tx,
    admin: Admin,
    now: Now,
    response: Response,
    if_match: IfMatch,
    body: ReasonIn | None = None,
) -> OrganizationOut:
    """Hide an organization until it is verified again (admins)."""
    reason = None if body is None else body.reason
    return _of(await organizations.suspend(tx, organization_id, reason=reason, now=now, if_match=if_match), response)


@router.post("/v1/organizations/{organization_id}/close", operation_id="close_organization")
async def close_organization(
    organization_id: UUID,
    tx: Tx,
    principal: Person,
    now: Now,
    response: Response,
    if_match: IfMatch,
    body: ReasonIn | None = None,
) -> OrganizationOut:
    """End an organization for good; its keys are revoked (its managers, admins)."""
    reason = None if body is None else body.reason
    closed = await organizations.close(tx, principal, organization_id, reason=reason, now=now, if_match=if_match)
    return _of(closed, response)


@router.post("/v1/organizations/{organization_id}/members", status_code=201, operation_id="grant_membership")
async def grant_membership(
    organization_id: UUID,
    body: MemberIn,
    tx: Tx,
    principal: Person,
    now: Now,
    response: Response,
    if_match: IfMatch,
) -> MemberGrantedOut:
    """Make somebody a member, or give a member another role (managers)."""
    organization, user_id = await organizations.grant_membership(
        tx,
        principal,
        organization_id,
        user_id=body.user_id,
        email=body.email,
        role=domain.MembershipRole(body.role),
        now=now,
        if_match=if_match,
    )
    set_etag(response, organization.version)
    return MemberGrantedOut(organization_id=organization_id, user_id=user_id, role=body.role)


@router.get("/v1/organizations/{organization_id}/members", operation_id="list_members")
async def list_members(organization_id: UUID, tx: Tx, paging: PageAsked, principal: Person) -> Page[MemberOut]:
    """Who acts for an organization (its members, admins)."""
    await organizations.require_member(tx, principal, organization_id)
    rows = await queries.members(tx, organization_id, limit=paging.limit, after=position(paging.position))
    return paging.page([MemberOut.model_validate(dict(row)) for row in rows], [[row["user_id"]] for row in rows])


@router.delete(
    "/v1/organizations/{organization_id}/members/{user_id}", status_code=204, operation_id="revoke_membership"
)
async def revoke_membership(
    organization_id: UUID, user_id: UUID, tx: Tx, principal: Person, now: Now, if_match: IfMatch
) -> None:
    """Let a member go (managers; members themselves); the last manager stays."""
    await organizations.revoke_membership(tx, principal, organization_id, user_id, now=now, if_match=if_match)
