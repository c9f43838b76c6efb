"""Sessions: a sign-in lasts as long as its refresh tokens are renewed, each used once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chassis import timers
from chassis.access import Principal
from chassis.auth import Unauthenticated
from chassis.database import Transaction
from chassis.kernel import new_id

from identity import repository
from identity.domain import SessionId
from identity.passwords import Passwords
from identity.repository import USERS
from identity.tokens import new_refresh_token, refresh_digest

FORGET = "forget-old-sessions"
FORGET_EVERY = timedelta(hours=1)


class WrongCredentials(Unauthenticated):
    """No such person, or not the password: which of them is nobody's business."""

    slug = "wrong-credentials"


class PersonSuspended(Unauthenticated):
    """The password is right, but the person may not sign in."""

    slug = "person-suspended"


class RefreshTokenInvalid(Unauthenticated):
    """The refresh token is unknown, expired, or its session is over."""

    slug = "refresh-token-invalid"


class RefreshTokenReused(Unauthenticated):
    """The token had been replaced: somebody has a copy, so its session has been ended."""

    slug = "refresh-token-reused"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a client gets: a session and the token that renews it."""

    user_id: UUID
    session_id: UUID
    refresh_token: str


async def login(
    tx: Transaction, passwords: Passwords, *, email: str, password: str, lives: timedelta, now: datetime
) -> Grant:
    """Start a session; an unknown address costs as much time as a wrong password and says the same."""
    row = await repository.user_by_email(tx, email)
    if not await passwords.matches(None if row is None else row["password_hash"], password) or row is None:
        raise WrongCredentials("the e-mail address or the password is wrong")
    if row["suspended"]:
        raise PersonSuspended("this account is suspended")
    session_id, token = new_id(), new_refresh_token()
    repository.start_session(tx, session_id, user_id=row["user_id"], now=now, expires_at=now + lives)
    repository.keep_refresh_token(tx, refresh_digest(token), session_id=session_id, expires_at=now + lives)
    return Grant(row["user_id"], session_id, token)


async def refresh(
    tx: Transaction, token: str, *, grace: timedelta, lives: timedelta, now: datetime
) -> Grant | RefreshTokenReused:
    """Replace a refresh token; one that was replaced longer than `grace` ago ends the session, which must commit."""
    digest = refresh_digest(token)
    row = await repository.refresh_token(tx, digest)
    if row is None or row["over"] or row["expires_at"] <= now:
        raise RefreshTokenInvalid("sign in again")
    if row["replaced_at"] is not None and row["replaced_at"] + grace < now:
        await _end(tx, row["user_id"], row["session_id"], now=now)
        return RefreshTokenReused("this token was used before; sign in again")
    new = new_refresh_token()
    repository.replace_refresh_token(
        tx, digest, refresh_digest(new), session_id=row["session_id"], now=now, lives=lives
    )
    return Grant(row["user_id"], row["session_id"], new)


async def logout(tx: Transaction, principal: Principal, *, now: datetime) -> None:
    """End the caller's session."""
    if principal.session_id is not None:
        await _end(tx, principal.id, principal.session_id, now=now)


async def logout_by_token(tx: Transaction, token: str, *, now: datetime) -> None:
    """End the session of a refresh token; one that is unknown or over needs nothing (RFC 7009)."""
    row = await repository.refresh_token(tx, refresh_digest(token))
    if row is not None and not row["over"]:
        await _end(tx, row["user_id"], row["session_id"], now=now)


async def forget_old(tx: Transaction, *, now: datetime) -> None:
    """Remove what can do nothing any more, and do so again in an hour."""
    await repository.forget_old_sessions(tx, now=now)
    schedule_forgetting(tx, due_at=now + FORGET_EVERY)


def schedule_forgetting(tx: Transaction, *, due_at: datetime) -> None:
    """Queue the timer."""
    payload: dict[str, Any] = {"kind": FORGET}
    timers.schedule(tx, due_at=due_at, key=FORGET, payload=payload)


async def _end(tx: Transaction, user_id: UUID, session_id: UUID, *, now: datetime) -> None:
    user = await USERS.get(tx, user_id)
    if not await repository.session_is_open(tx, session_id):
        return  # somebody else ended it first
    user.end_session(SessionId(session_id))
    USERS.save(tx, user, now=now)
    repository.end_session(tx, session_id, now=now)
