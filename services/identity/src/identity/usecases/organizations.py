"""Organizations and their members."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.access import Principal
from chassis.database import Transaction
from chassis.kernel import new_id

from identity.domain import (
    MembershipRole,
    NotAManager,
    NotAMember,
    Organization,
    OrganizationId,
    OrganizationKind,
    OrganizationNotFound,
    UserId,
    UserIsSuspended,
    UserNotFound,
)
from identity.repository import API_KEYS, ORGANIZATIONS, USERS, active_api_keys, user_by_email
from identity.usecases.cnpj import normalised


async def register(
    tx: Transaction,
    principal: Principal,
    *,
    cnpj: str,
    legal_name: str,
    trade_name: str | None,
    kinds: tuple[OrganizationKind, ...],
    now: datetime,
) -> Organization:
    """Register a CNPJ; whoever does is its manager at once."""
    organization = Organization.register(
        OrganizationId(new_id()),
        cnpj=normalised(cnpj),
        legal_name=legal_name,
        trade_name=trade_name,
        kinds=kinds,
        by=UserId(principal.id),
        now=now,
    )
    ORGANIZATIONS.save(tx, organization, now=now)
    return organization


async def verify(tx: Transaction, organization_id: UUID, *, now: datetime, if_match: int | None) -> Organization:
    """Let an organization act; the caller is an admin."""
    organization = await ORGANIZATIONS.get(tx, organization_id)
    organization.expect_version(if_match)
    organization.verify()
    ORGANIZATIONS.save(tx, organization, now=now)
    return organization


async def suspend(
    tx: Transaction, organization_id: UUID, *, reason: str | None, now: datetime, if_match: int | None
) -> Organization:
    """Hide an organization until it is verified again; the caller is an admin."""
    organization = await ORGANIZATIONS.get(tx, organization_id)
    organization.expect_version(if_match)
    organization.suspend(reason=reason)
    ORGANIZATIONS.save(tx, organization, now=now)
    return organization


async def close(
    tx: Transaction,
    principal: Principal,
    organization_id: UUID,
    *,
    reason: str | None,
    now: datetime,
    if_match: int | None,
) -> Organization:
    """End an organization and its keys; its managers and admins may."""
    organization = await _seen(tx, principal, organization_id, if_match)
    if not principal.is_admin:
        _require_manager(principal, organization)
    organization.close(reason=reason)
    ORGANIZATIONS.save(tx, organization, now=now)
    for api_key_id in await active_api_keys(tx, organization_id):
        key = await API_KEYS.get(tx, api_key_id)
        key.revoke()
        API_KEYS.save(tx, key, now=now)
    return organization


async def grant_membership(
    tx: Transaction,
    principal: Principal,
    organization_id: UUID,
    *,
    user_id: UUID | None,
    email: str | None,
    role: MembershipRole,
    now: datetime,
    if_match: int | None,
) -> tuple[Organization, UserId]:
    """Make somebody, named by id or e-mail address, a member, or give a member another role."""
    organization = await managed(tx, principal, organization_id, if_match)
    member = await _person(tx, user_id, email)
    organization.grant(member, role=role)
    ORGANIZATIONS.save(tx, organization, now=now)
    return organization, member


async def revoke_membership(
    tx: Transaction, principal: Principal, organization_id: UUID, user_id: UUID, *, now: datetime, if_match: int | None
) -> Organization:
    """Let a member go: managers anybody, everybody themselves."""
    organization = await _seen(tx, principal, organization_id, if_match)
    leaves = principal.id == user_id and principal.acts_for(organization_id)
    if not leaves:
        _require_manager(principal, organization)
    organization.revoke(UserId(user_id))
    ORGANIZATIONS.save(tx, organization, now=now)
    return organization


async def require_member(tx: Transaction, principal: Principal, organization_id: UUID) -> None:
    """Only members and admins pass."""
    await _seen(tx, principal, organization_id, None)
    if not principal.acts_for(organization_id) and not principal.is_admin:
        raise NotAMember("only the organization's members see this")


async def managed(
    tx: Transaction, principal: Principal, organization_id: UUID, if_match: int | None = None
) -> Organization:
    """The organization, for its managers only: 404 when the caller may not see it, 403 when not its manager."""
    organization = await _seen(tx, principal, organization_id, if_match)
    _require_manager(principal, organization)
    return organization


async def _seen(tx: Transaction, principal: Principal, organization_id: UUID, if_match: int | None) -> Organization:
    organization = await ORGANIZATIONS.get(tx, organization_id)
    if not (organization.is_public or principal.acts_for(organization_id) or principal.is_coordinator):
        raise OrganizationNotFound
    organization.expect_version(if_match)
    return organization


def _require_manager(principal: Principal, organization: Organization) -> None:
    if not principal.manages(organization.id):
        raise NotAManager("only the organization's managers do this")


async def _person(tx: Transaction, user_id: UUID | None, email: str | None) -> UserId:
    if email is not None:
        row = await user_by_email(tx, email)
        if row is None:
            raise UserNotFound("nobody has registered with this address")
        found, suspended = row["user_id"], row["suspended"]
    else:
        user = await USERS.get(tx, user_id) if user_id is not None else None
        if user is None:
            raise UserNotFound
        found, suspended = user.id, user.suspended
    if suspended:
        raise UserIsSuspended
    return UserId(found)
