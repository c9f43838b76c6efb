"""What can be done with requests and reservations. Callers' rights are checked in `rights`, once."""

from resources.usecases.requests import (
    Wanted,
    cancel,
    change,
    close,
    expire_request,
    history,
    open_request,
    receive_delivery,
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

__all__ = [
    "EXPIRE_REQUEST",
    "EXPIRE_RESERVATION",
    "Wanted",
    "cancel",
    "cancel_reservation",
    "change",
    "close",
    "expire_request",
    "expire_reservation",
    "history",
    "open_request",
    "receive",
    "receive_delivery",
    "refuse",
    "reserve",
    "start",
]
