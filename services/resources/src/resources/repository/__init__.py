"""Loads and saves what resources owns, and keeps what it heard of batches and deliveries."""

from resources.repository.deliveries import (
    HandedOver,
    KnownDelivery,
    keep_delivery,
    known_delivery,
    requests_promised_with,
)
from resources.repository.matches import (
    MATCHES,
    batches_of,
    batches_reserved,
    end,
    hold_lines,
    open_for,
    propose,
    standing,
    wanted,
    where,
)
from resources.repository.requests import REQUESTS, move_requests, open_requests_of, promises_of
from resources.repository.supply import (
    KnownBatch,
    batches_near,
    gtins_of,
    hold_supply,
    keep_batch,
    move_batches,
    note_hold,
    supply_of,
)

__all__ = [
    "MATCHES",
    "REQUESTS",
    "HandedOver",
    "KnownBatch",
    "KnownDelivery",
    "batches_near",
    "batches_of",
    "batches_reserved",
    "end",
    "gtins_of",
    "hold_lines",
    "hold_supply",
    "keep_batch",
    "keep_delivery",
    "known_delivery",
    "move_batches",
    "move_requests",
    "note_hold",
    "open_for",
    "open_requests_of",
    "promises_of",
    "propose",
    "requests_promised_with",
    "standing",
    "supply_of",
    "wanted",
    "where",
]
