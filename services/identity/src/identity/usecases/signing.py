"""The key pair that tokens are signed with: made once, kept encrypted, announced to everybody who verifies."""

from __future__ import annotations

from datetime import datetime

from chassis.database import Transaction
from chassis.idempotency import Vault
from chassis.kernel import new_id
from joserfc.jwk import ECKey

from identity import repository
from identity.domain import SigningKey, SigningKeyId
from identity.repository import SIGNING_KEYS
from identity.tokens import from_private_bytes, new_signing_key, private_bytes, public_half

VAULT_PURPOSE = "signing-key"


async def current_key(tx: Transaction, vault: Vault, *, now: datetime) -> ECKey:
    """The newest key pair; the first process ever to start makes it. Needs a real transaction."""
    await repository.only_one_starts(tx)
    sealed = await repository.newest_signing_key(tx)
    if sealed is not None:
        return from_private_bytes(vault.open(sealed))
    signing_key_id = SigningKeyId(new_id())
    key = new_signing_key(signing_key_id)
    SIGNING_KEYS.save(tx, SigningKey.publish(signing_key_id, jwk=public_half(key), now=now), now=now)
    repository.keep_sealed(tx, signing_key_id, vault.seal(private_bytes(key)))
    return key
