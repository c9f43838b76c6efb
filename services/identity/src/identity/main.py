"""The composition root: everything of identity wired by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from chassis.app import Runtime, Service
from chassis.database import Database
from chassis.idempotency import Vault
from chassis.telemetry import in_context, start_context

from identity import api, consumers
from identity.passwords import Passwords
from identity.repository import API_KEYS, CONSTRAINTS, ORGANIZATIONS, PLACES, SIGNING_KEYS, USERS
from identity.settings import AdminSettings, Settings
from identity.tokens import Signer
from identity.usecases import sessions, signing, users


@dataclass(kw_only=True)
class Identity(Service):
    """The service and what its routes share besides."""

    signer: Signer
    passwords: Passwords = field(default_factory=Passwords)


def build() -> Identity:
    """The service, from its environment."""
    settings = Settings()
    signer = Signer(issuer=settings.token_issuer, ttl_s=settings.token_ttl_s)

    async def start(runtime: Runtime) -> None:
        now = datetime.now(UTC)
        with in_context(start_context()):
            async with runtime.database.transaction() as tx:
                signer.use(await signing.current_key(tx, Vault(runtime.secret, signing.VAULT_PURPOSE), now=now))
                sessions.schedule_forgetting(tx, due_at=now)

    return Identity(
        name="identity",
        settings=settings,
        routers=api.ROUTERS,
        internal_routers=api.INTERNAL_ROUTERS,
        streams={
            "organization": ORGANIZATIONS,
            "place": PLACES,
            "user": USERS,
            "api_key": API_KEYS,
            "signing_key": SIGNING_KEYS,
        },
        timers={sessions.FORGET: consumers.forget_old_sessions},
        constraints=CONSTRAINTS,
        on_start=start,
        access_ttl_s=0.0,  # its own directory is right at once, so nothing is cached
        replicates_access=False,  # and written in the transactions of the facts
        signer=signer,
    )


async def create_admin(email: str, password: str) -> bool:
    """Make this address an admin in the service's database; True when it was new. Tells it through the outbox."""
    database = Database(AdminSettings().database_url.get_secret_value(), pool_max=2, constraints=CONSTRAINTS)
    await database.open()
    try:
        with in_context(start_context()):
            async with database.transaction() as tx:
                return await users.make_admin(tx, Passwords(), email=email, password=password, now=datetime.now(UTC))
    finally:
        await database.close()
