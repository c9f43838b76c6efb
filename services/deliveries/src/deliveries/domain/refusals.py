"""What a delivery says no to, each with the stable code callers see."""

from __future__ import annotations

from chassis.kernel import Conflict, Forbidden, Locked, NotFound


class DeliveryNotFound(NotFound):
    """No such delivery, or not for this caller."""

    slug = "delivery-not-found"


class CategoryNotAccepted(Conflict):
    """The receiving place does not take this category."""

    slug = "category-not-accepted"


class SeveralPickupPlaces(Conflict):
    """The batches of one delivery stand in different places."""

    slug = "several-pickup-places"


class PickupWindowsApart(Conflict):
    """No moment suits all batches: their pickup windows do not meet."""

    slug = "pickup-windows-apart"


class MixedStorage(Conflict):
    """One reading cannot vouch for goods of different temperature bands."""

    slug = "mixed-storage"


class LineNotFound(NotFound):
    """The delivery has no such line."""

    slug = "line-not-found"


class VolunteerNotActive(Conflict):
    """Only active volunteers claim."""

    slug = "volunteer-not-active"


class VehicleDoesNotFit(Conflict):
    """The goods do not fit the volunteer's vehicle."""

    slug = "vehicle-does-not-fit"


class ClaimOverlaps(Conflict):
    """The volunteer carries something else at that time."""

    slug = "claim-overlaps"


class ClaimCapReached(Conflict):
    """The volunteer claimed as much as one may in a day."""

    slug = "claim-cap-reached"


class TooManyParts(Conflict):
    """The delivery was split so often that it is claimed whole from now on."""

    slug = "too-many-parts"


class WaitingListFull(Conflict):
    """More volunteers wait for it than will ever be called."""

    slug = "waiting-list-full"


class AlreadyYours(Conflict):
    """Who carries a delivery does not wait for it."""

    slug = "already-yours"


class NotEnoughTime(Conflict):
    """Not enough safe time is left to carry the goods."""

    slug = "not-enough-time"


class TooEarly(Conflict):
    """The pickup window has not begun."""

    slug = "too-early"


class SamePerson(Forbidden):
    """One person is never giver and taker of one handshake."""

    slug = "same-person"


class QuantityMismatch(Conflict):
    """The quantities do not fit what is planned or in hand."""

    slug = "quantity-mismatch"


class NothingPickedUp(Conflict):
    """A pickup of nothing is a failed delivery."""

    slug = "nothing-picked-up"


class GoodsExpired(Conflict):
    """Nothing is handed over after its use-by time."""

    slug = "goods-expired"


class GoodsRecalled(Conflict):
    """Nothing is handed over after a recall."""

    slug = "goods-recalled"


class TemperatureRequired(Conflict):
    """Goods kept chilled, frozen or hot need a reading."""

    slug = "temperature-required"


class TemperatureOutOfBand(Conflict):
    """The reading is outside the band of the storage."""

    slug = "temperature-out-of-band"


class NoShowNotFound(NotFound):
    """Nobody reported this volunteer, or it is contested already."""

    slug = "no-show-not-found"


class WrongCode(Conflict):
    """The code is not the one shown; `tries_left` says how often one may try again."""

    slug = "wrong-code"


class OfflineCodeRefused(Conflict):
    """The moment at which a code is said to have been entered cannot be; `reason` says why."""

    slug = "offline-code-refused"


class CodeLocked(Locked):
    """Too many wrong codes; `retry_after_s` says when to come back."""

    slug = "code-locked"
