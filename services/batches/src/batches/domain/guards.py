"""Rules that need no batch: what a quantity, a window, a use-by time and a temperature must be."""

from __future__ import annotations

from datetime import datetime

from chassis.kernel import Invalid

from batches.domain import refusals
from batches.domain.terms import (
    BANDS_DC,
    QUANTITY_MAX,
    TEMPERATURE_DC_MAX,
    TEMPERATURE_DC_MIN,
    Hold,
    HoldState,
    PickupWindow,
    Storage,
)


def in_band(storage: Storage, temperature_dc: int) -> bool:
    """Whether goods of this storage may be at this temperature."""
    band = BANDS_DC[storage]
    return band is None or band[0] <= temperature_dc <= band[1]


def require_in_band(storage: Storage, temperature_dc: int | None) -> None:
    """Goods kept chilled, frozen or hot may be handed on only with a reading in their band."""
    if temperature_dc is None:
        if BANDS_DC[storage] is not None:
            raise refusals.TemperatureRequired(storage=storage)
        return
    check_temperature(temperature_dc)
    if not in_band(storage, temperature_dc):
        raise refusals.TemperatureOutOfBand(storage=storage, temperature_dc=temperature_dc, band_dc=BANDS_DC[storage])


def check_quantity(quantity: int) -> None:
    """A quantity is at least one and within what any batch can be."""
    if not 1 <= quantity <= QUANTITY_MAX:
        raise Invalid("quantity out of range", pointer="/quantity")


def check_temperature(temperature_dc: int) -> None:
    """A temperature is one that goods on this planet have."""
    if not TEMPERATURE_DC_MIN <= temperature_dc <= TEMPERATURE_DC_MAX:
        raise Invalid("temperature out of range", pointer="/temperature_dc")


def check_window(window: PickupWindow) -> None:
    """A pickup window has a positive length."""
    if window.from_at >= window.to_at:
        raise Invalid("the pickup window ends before it begins", pointer="/pickup_window")


def check_use_by_ahead(use_by_at: datetime | None, *, now: datetime) -> None:
    """A use-by time, when given, lies ahead."""
    if use_by_at is not None and use_by_at <= now:
        raise Invalid("the use-by time has passed", pointer="/use_by_at")


def require_hold_state(hold: Hold, state: HoldState) -> None:
    """The hold is where the command needs it."""
    if hold.state is not state:
        raise refusals.HoldNotPossible(hold_state=hold.state, needed=state)


def require_at_most(quantity: int, most: int) -> None:
    """A quantity moved between buckets is not negative and is there."""
    if not 0 <= quantity <= most:
        raise refusals.MoreThanHeld(quantity=quantity, most=most)
