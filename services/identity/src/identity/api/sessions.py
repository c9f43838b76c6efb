"""Signing in, staying signed in, signing out."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from chassis.problems import problem_of
from chassis.routing import Now, OfRuntime, Tx, api_router, not_idempotent, principal_of
from chassis.telemetry import current_context
from chassis.wire import Body, View
from fastapi import Request, Response
from pydantic import StringConstraints

from identity.api.inputs import ANONYMOUS, Email, OfPasswords, OfSigner, Password
from identity.domain import email_key
from identity.tokens import Signer
from identity.usecases import sessions

router = api_router("sessions")

RefreshToken = Annotated[str, StringConstraints(min_length=20, max_length=200, pattern="^[A-Za-z0-9_-]+$")]
_EITHER: dict[str, Any] = {"security": [{"bearer": []}, {}]}


class LoginIn(Body):
    """Who signs in; `totp` is asked of accounts with a second factor only."""

    email: Email
    password: Password
    totp: Annotated[str, StringConstraints(pattern="^[0-9]{6}$")] | None = None


class RefreshIn(Body):
    """The newest refresh token of a session."""

    refresh_token: RefreshToken


class LogoutIn(Body):
    """A refresh token of the session to end; without one, the access token names it."""

    refresh_token: RefreshToken | None = None


class TokensOut(View):
    """A token pair; `expires_in` is the access token's life in seconds."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    refresh_token: str


@router.post("/v1/auth/login", operation_id="login", openapi_extra=ANONYMOUS)
@not_idempotent
async def login(
    body: LoginIn, tx: Tx, runtime: OfRuntime, passwords: OfPasswords, signer: OfSigner, now: Now, response: Response
) -> TokensOut:
    """Start a session of your own; a few attempts per account and address and minute."""
    await _count_attempt(runtime, body.email)
    lives = timedelta(seconds=runtime.settings.refresh_ttl_s)
    grant = await sessions.login(tx, passwords, email=body.email, password=body.password, lives=lives, now=now)
    return _tokens(grant, signer, now, response)


@router.post("/v1/auth/refresh", operation_id="refresh", openapi_extra=ANONYMOUS)
@not_idempotent
async def refresh(
    body: RefreshIn, tx: Tx, runtime: OfRuntime, signer: OfSigner, now: Now, request: Request, response: Response
) -> Any:
    """A new pair for the newest refresh token; an older one ends the session, except within 20 s (a lost answer)."""
    grace = timedelta(seconds=runtime.settings.refresh_grace_s)
    lives = timedelta(seconds=runtime.settings.refresh_ttl_s)
    outcome = await sessions.refresh(tx, body.refresh_token, grace=grace, lives=lives, now=now)
    if isinstance(outcome, sessions.RefreshTokenReused):
        return problem_of(request, outcome)  # answered, not raised: the session's end must commit
    return _tokens(outcome, signer, now, response)


@router.post("/v1/auth/logout", status_code=204, operation_id="logout", openapi_extra=_EITHER)
@not_idempotent
async def logout(tx: Tx, now: Now, request: Request, body: LogoutIn | None = None) -> None:
    """End the session of the refresh token, or else of the access token; it counts no more, here and everywhere."""
    if body is not None and body.refresh_token is not None:
        await sessions.logout_by_token(tx, body.refresh_token, now=now)
    else:
        await sessions.logout(tx, await principal_of(request), now=now)


def _tokens(grant: sessions.Grant, signer: Signer, now: datetime, response: Response) -> TokensOut:
    response.headers["Cache-Control"] = "no-store"
    return TokensOut(
        access_token=signer.access_token(user_id=grant.user_id, session_id=grant.session_id, now=now),
        token_type="Bearer",  # noqa: S106 - the kind of token, not one
        expires_in=signer.ttl_s,
        refresh_token=grant.refresh_token,
    )


async def _count_attempt(runtime: Any, email: str) -> None:
    account = hashlib.sha256(email_key(email).encode()).hexdigest()[:32]
    key = f"login:{account}:{current_context().address}"
    await runtime.quotas.take(key, limit=runtime.settings.login_per_minute, fail_open=False)
