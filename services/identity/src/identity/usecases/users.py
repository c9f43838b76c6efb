"""People: signing up, platform roles, suspension, and the offer to carry."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.access import Principal
from chassis.database import Transaction
from chassis.kernel import new_id

from identity.domain import EmailTaken, Locale, PlatformRole, User, UserId, VolunteerProfile
from identity.passwords import Passwords
from identity.repository import USERS, end_sessions_of, keep_private, user_by_email


async def register(
    tx: Transaction,
    passwords: Passwords,
    *,
    email: str,
    password: str,
    display_name: str,
    locale: Locale,
    now: datetime,
) -> User:
    """Sign a person up; one address is one person."""
    if await user_by_email(tx, email) is not None:
        raise EmailTaken  # the usual case, before a password is hashed for nothing; the constraint decides races
    password_hash = await passwords.hash(password)
    user = User.register(UserId(new_id()), locale=locale, now=now)
    USERS.save(tx, user, now=now)
    keep_private(tx, user.id, email=email, display_name=display_name, password_hash=password_hash)
    return user


async def grant_role(tx: Transaction, user_id: UUID, *, role: PlatformRole, now: datetime) -> User:
    """Give a person a platform role; the caller is an admin."""
    user = await USERS.get(tx, user_id)
    user.grant(role)
    USERS.save(tx, user, now=now)
    return user


async def suspend(tx: Transaction, principal: Principal, user_id: UUID, *, now: datetime) -> User:
    """End a person's access and all sessions; the caller is an admin."""
    user = await USERS.get(tx, user_id)
    user.suspend(by=UserId(principal.id))
    USERS.save(tx, user, now=now)
    end_sessions_of(tx, user_id, now=now)
    return user


async def offer_to_carry(tx: Transaction, principal: Principal, *, profile: VolunteerProfile, now: datetime) -> User:
    """Volunteer, or change what one offers."""
    user = await USERS.get(tx, principal.id)
    user.offer_to_carry(profile)
    USERS.save(tx, user, now=now)
    return user


async def make_admin(tx: Transaction, passwords: Passwords, *, email: str, password: str, now: datetime) -> bool:
    """Make this address an admin, signing it up when it is new (True); a person who is there keeps the password."""
    row = await user_by_email(tx, email)
    if row is not None:
        await grant_role(tx, row["user_id"], role=PlatformRole.ADMIN, now=now)
        return False
    name = email.partition("@")[0]
    user = await register(
        tx, passwords, email=email, password=password, display_name=name, locale=Locale.PT_BR, now=now
    )
    await tx.flush()  # the role is a second change of the same rows
    user.grant(PlatformRole.ADMIN)
    USERS.save(tx, user, now=now)
    return True
