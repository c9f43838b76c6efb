"""What can be done with requests, reservations and matches. Callers' rights are checked in `rights`, once."""

from resources.repository import KnownBatch
from resources.usecases.deliveries import SupplyBehind, ToldDelivery, ToldLine, follow_delivery
from resources.usecases.looking import LOOK, LOOK_FOR_NEED
from resources.usecases.matches import accept, decline
from resources.usecases.matching import MATCHING, Policy, call_off, look, look_for_need, pursue
from resources.usecases.organizations import CALL_OFF, DirectoryBehind, call_off_organization, organization_gone
from resources.usecases.requests import (
    Wanted,
    cancel,
    change,
    close,
    expire_request,
    history,
    open_request,
)
from resources.usecases.reservations import (
    cancel_reservation,
    expire_reservation,
    receive,
    refuse,
    reserve,
    start,
)
from resources.usecases.saving import EXPIRE_REQUEST, EXPIRE_RESERVATION
from resources.usecases.supply import batch_ready, hold_answered, know_batch, place_moved

__all__ = [
    "CALL_OFF",
    "EXPIRE_REQUEST",
    "EXPIRE_RESERVATION",
    "LOOK",
    "LOOK_FOR_NEED",
    "MATCHING",
    "DirectoryBehind",
    "KnownBatch",
    "Policy",
    "SupplyBehind",
    "ToldDelivery",
    "ToldLine",
    "Wanted",
    "accept",
    "batch_ready",
    "call_off",
    "call_off_organization",
    "cancel",
    "cancel_reservation",
    "change",
    "close",
    "decline",
    "expire_request",
    "expire_reservation",
    "follow_delivery",
    "history",
    "hold_answered",
    "know_batch",
    "look",
    "look_for_need",
    "open_request",
    "organization_gone",
    "place_moved",
    "pursue",
    "receive",
    "refuse",
    "reserve",
    "start",
]
