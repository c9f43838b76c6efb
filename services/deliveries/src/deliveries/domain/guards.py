"""Rules that need no whole delivery: what a plan, a claim, a reading and the quantities of a handover must be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from chassis.kernel import Invalid

from deliveries.domain import refusals
from deliveries.domain.terms import BANDS_DC, LINES_MAX, Dropped, Line, LineId, PlannedLine, Storage, UserId, Window


def check_plan(lines: Collection[PlannedLine], *, pickup_window: Window | None, dropoff_window: Window | None) -> None:
    """A plan names one to fifty lines, each batch once, quantities above zero and a window that can be kept."""
    if not 1 <= len(lines) <= LINES_MAX:
        raise Invalid(f"a delivery has 1 to {LINES_MAX} lines", pointer="/lines")
    if len({line.batch_id for line in lines}) < len(lines) or len({line.line_id for line in lines}) < len(lines):
        raise Invalid("a batch is named once", pointer="/lines")
    if any(line.quantity < 1 for line in lines):
        raise Invalid("a quantity is at least 1", pointer="/lines")
    if dropoff_window is not None and dropoff_window.from_at >= dropoff_window.to_at:
        raise Invalid("the window ends before it begins", pointer="/dropoff_window")
    if dropoff_window is not None and pickup_window is not None and dropoff_window.to_at <= pickup_window.from_at:
        raise Invalid("the window ends before anything can be picked up", pointer="/dropoff_window")


def meeting_of(windows: Collection[Window]) -> Window | None:
    """When all windows are open at once; None when there are none."""
    if not windows:
        return None
    from_at, to_at = max(window.from_at for window in windows), min(window.to_at for window in windows)
    if from_at >= to_at:
        raise refusals.PickupWindowsApart
    return Window(from_at=from_at, to_at=to_at)


def require_plannable(lines: Collection[PlannedLine], *, accepts: Collection[str] | None) -> None:
    """One pickup place, one temperature band, and categories that the receiving place takes (None: any)."""
    refused = sorted({line.category for line in lines if accepts is not None and line.category not in accepts})
    if refused:
        raise refusals.CategoryNotAccepted(categories=refused)
    if len({line.pickup_place_id for line in lines}) > 1:
        raise refusals.SeveralPickupPlaces
    banded = sorted({line.storage for line in lines if BANDS_DC[line.storage] is not None})
    if len(banded) > 1:
        raise refusals.MixedStorage(storages=banded)


def require_part(lines: Mapping[LineId, Line], taken: Mapping[LineId, int]) -> None:
    """A part names lines of the delivery and takes of each at least one and at most what is planned."""
    require_known(lines, taken)
    for line_id, quantity in taken.items():
        if not 1 <= quantity <= lines[line_id].planned:
            raise refusals.QuantityMismatch(line_id=line_id, planned=lines[line_id].planned, taken=quantity)
    if not taken:
        raise Invalid("say what you take", pointer="/lines")


def require_claimable(
    *, active: bool, vehicle_fits: bool, overlapping: bool, claims_today: int, daily_cap: int
) -> None:
    """An active volunteer whose vehicle fits, who is free at that time and below the daily cap."""
    if not active:
        raise refusals.VolunteerNotActive
    if not vehicle_fits:
        raise refusals.VehicleDoesNotFit
    if overlapping:
        raise refusals.ClaimOverlaps
    if claims_today >= daily_cap:
        raise refusals.ClaimCapReached(daily_cap=daily_cap)


def require_in_band(storages: Iterable[Storage], temperature_dc: int | None) -> None:
    """Goods kept chilled, frozen or hot change hands only with a reading in their band."""
    for storage in storages:
        band = BANDS_DC[storage]
        if band is None:
            continue
        if temperature_dc is None:
            raise refusals.TemperatureRequired(storage=storage)
        if not band[0] <= temperature_dc <= band[1]:
            raise refusals.TemperatureOutOfBand(storage=storage, temperature_dc=temperature_dc, band_dc=band)


def require_unexpired(lines: Iterable[Line], *, now: datetime) -> None:
    """Nothing changes hands at or after its use-by time."""
    for line in lines:
        if line.use_by_at is not None and line.use_by_at <= now:
            raise refusals.GoodsExpired(line_id=line.line_id, use_by_at=line.use_by_at)


def require_known(lines: Mapping[LineId, Line], named: Iterable[LineId]) -> None:
    """Every line named is one of the delivery's."""
    for line_id in named:
        if line_id not in lines:
            raise refusals.LineNotFound(line_id=line_id)


def require_picked(lines: Mapping[LineId, Line], picked: Mapping[LineId, int]) -> None:
    """Every line is named, 0 ≤ picked ≤ planned, and something is picked."""
    require_known(lines, picked)
    for line_id, line in lines.items():
        if not 0 <= picked.get(line_id, -1) <= line.planned:
            raise refusals.QuantityMismatch(line_id=line_id, planned=line.planned, picked=picked.get(line_id))
    if not any(picked.values()):
        raise refusals.NothingPickedUp


def require_dropped(lines: Mapping[LineId, Line], dropped: Mapping[LineId, Dropped]) -> None:
    """For every line, delivered and rejected together are what is in hand."""
    require_known(lines, dropped)
    for line_id, line in lines.items():
        drop = dropped.get(line_id, Dropped(delivered=0))
        if min(drop.delivered, drop.rejected) < 0 or drop.delivered + drop.rejected != line.in_hand:
            raise refusals.QuantityMismatch(
                line_id=line_id, in_hand=line.in_hand, delivered=drop.delivered, rejected=drop.rejected
            )


def require_losable(lines: Mapping[LineId, Line], lost: Mapping[LineId, int]) -> None:
    """Something is lost, of named lines, never more than is in hand."""
    require_known(lines, lost)
    for line_id, quantity in lost.items():
        if not 1 <= quantity <= lines[line_id].in_hand:
            raise refusals.QuantityMismatch(line_id=line_id, in_hand=lines[line_id].in_hand, lost=quantity)
    if not lost:
        raise Invalid("say what is lost", pointer="/lines")


def require_other_person(giver: UserId, taker: UserId | None) -> None:
    """One person is never giver and taker of one handshake."""
    if giver == taker:
        raise refusals.SamePerson
