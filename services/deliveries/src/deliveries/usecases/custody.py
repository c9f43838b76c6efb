"""Custody codes: kept as sealed secrets, shown to who takes, checked for who gives, wrong ones counted for good."""

from __future__ import annotations

import os
from datetime import datetime

from chassis.database import Database, Transaction
from chassis.idempotency import Vault

from deliveries import repository
from deliveries.domain import (
    Code,
    Delivery,
    DeliveryId,
    Handshake,
    code_at,
    code_matches,
    entered_at,
    require_other_person,
)
from deliveries.usecases.asking import Asked, NotYourDelivery, require_member, seen

SECRET_BYTES = 32
_COMMAND_OF = {Handshake.PICKUP: "pickup", Handshake.DROPOFF: "dropoff", Handshake.RETURN: "return"}


class Custody:
    """The secrets of this service's deliveries. They leave it as six digits to one person at a time, never otherwise."""

    def __init__(self, database: Database, secret: bytes) -> None:
        self._database = database
        self._vault = Vault(secret, "custody")

    def begin(self, tx: Transaction, delivery_id: DeliveryId) -> None:
        """Queue a secret for a new delivery."""
        repository.keep_secret(tx, delivery_id, self._vault.seal(os.urandom(SECRET_BYTES)))

    async def code(self, tx: Transaction, delivery: Delivery, *, stage: Handshake, now: datetime) -> Code:
        """The code to show now."""
        secret = await self._secret(tx, delivery)
        return code_at(secret, version=delivery.secret_version, stage=stage, now=now)

    async def check(self, asked: Asked, delivery: Delivery, code: str, *, stage: Handshake) -> datetime:
        """Pass only with the right code and tries left; a wrong one stays counted though the command is refused.

        Returns when it was entered: a code from an app without a network is judged by that app's clock, within bounds, while
        tries are counted by ours.

        Tries of one stage come one by one, in a short transaction of their own. A command that runs again under
        locks was counted the first time; it must not wait for a second connection while it holds one.
        """
        tx, now = asked.tx, asked.now
        entered = entered_at(asked.client_time, claimed_at=delivery.claimed_at, now=now)
        secret = await self._secret(tx, delivery)
        right = code_matches(secret, code, version=delivery.secret_version, stage=stage, now=entered)
        if tx.locking:
            tries = await repository.locked_tries(tx, delivery.id, stage)
        else:
            async with self._database.transaction() as own:
                tries = await repository.locked_tries(own, delivery.id, stage)
                tries.require_left(now)
                if not right:
                    tries = tries.failed(now)
                    repository.keep_tries(own, delivery.id, stage, tries)
        if not right:
            raise tries.refusal(now)
        return entered

    async def _secret(self, tx: Transaction, delivery: Delivery) -> bytes:
        return self._vault.open(await repository.sealed_secret(tx, delivery.id))


async def show_code(asked: Asked, custody: Custody, *, stage: Handshake) -> Code:
    """Who takes the goods shows: the volunteer at the pickup, the receiver's or provider's people at the other ends."""
    delivery = await seen(asked)
    match stage:
        case Handshake.PICKUP:
            if asked.principal.id != delivery.volunteer_id:
                raise NotYourDelivery("only the volunteer who claimed it may do this")
        case Handshake.DROPOFF:
            require_member(asked.principal, [delivery.receiving_organization_id], "the receiver's members")
            require_other_person(asked.user_id, delivery.volunteer_id)
        case Handshake.RETURN:
            require_member(asked.principal, delivery.provider_ids, "the provider's members")
            require_other_person(asked.user_id, delivery.volunteer_id)
    delivery.require(_COMMAND_OF[stage])
    return await custody.code(asked.tx, delivery, stage=stage, now=asked.now)
