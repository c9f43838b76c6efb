"""What a batch says no to, each with the stable code callers see."""

from __future__ import annotations

from chassis.kernel import Conflict, NotFound


class BatchNotFound(NotFound):
    """No such batch, or not for this caller."""

    slug = "batch-not-found"


class UseByRequired(Conflict):
    """Only aid may be offered without a use-by time."""

    slug = "use-by-required"


class UseByTooSoon(Conflict):
    """Not enough safe time is left to handle the goods."""

    slug = "use-by-too-soon"


class TemperatureRequired(Conflict):
    """Goods kept chilled, frozen or hot need a reading."""

    slug = "temperature-required"


class TemperatureOutOfBand(Conflict):
    """The reading is outside the band of the storage."""

    slug = "temperature-out-of-band"


class QuantityCommitted(Conflict):
    """Part of the quantity is held, on the road, delivered or lost and cannot be adjusted away."""

    slug = "quantity-committed"


class BatchInUse(Conflict):
    """Something is held or on the road."""

    slug = "batch-in-use"


class HoldNotFound(NotFound):
    """No hold with this id was ever asked for."""

    slug = "hold-not-found"


class HoldNotPossible(Conflict):
    """The hold is in a state where this cannot happen to it."""

    slug = "hold-not-possible"


class MoreThanHeld(Conflict):
    """More than the hold has in that bucket."""

    slug = "more-than-held"
