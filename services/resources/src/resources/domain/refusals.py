"""What a request says no to, each with the stable code callers see."""

from __future__ import annotations

from chassis.kernel import Conflict, Forbidden, NotFound


class RequestNotFound(NotFound):
    """No such request, or not for this caller."""

    slug = "request-not-found"


class NeedExceeded(Conflict):
    """More than is still uncovered of a line."""

    slug = "need-exceeded"


class NeedCommitted(Conflict):
    """Part of the line is reserved or received and cannot be changed away."""

    slug = "need-committed"


class NeededByPassed(Conflict):
    """The time by which it was needed is over."""

    slug = "needed-by-passed"


class ReceivedMoreThanReserved(Conflict):
    """A reservation brings at most what it promised."""

    slug = "received-more-than-reserved"


class NothingReceived(Conflict):
    """A reservation of which nothing arrived is refused, not received."""

    slug = "nothing-received"


class LineNotFound(NotFound):
    """The request has no such line."""

    slug = "line-not-found"


class ReservationNotFound(NotFound):
    """The request has no such reservation."""

    slug = "reservation-not-found"


class OwnRequest(Conflict):
    """An organization gives to others, not to itself."""

    slug = "own-request"


class TooManyReservations(Conflict):
    """The request has had as many reservations as it can carry."""

    slug = "too-many-reservations"


class MatchNotFound(NotFound):
    """No such match, or not for this caller."""

    slug = "match-not-found"


class AnswerTooLate(Conflict):
    """The time for an answer is over."""

    slug = "match-expired"


class SamePerson(Forbidden):
    """One person is never giver and taker of one reservation."""

    slug = "same-person"


class LoadNotFound(NotFound):
    """No such catalogue load, or not for this caller."""

    slug = "catalogue-load-not-found"


class LoadSuperseded(Conflict):
    """A newer load of the company was applied: what failed of this one is older than what is there."""

    slug = "catalogue-load-superseded"


class SequenceTooLow(Conflict):
    """`X-Load-Sequence` must rise from load to load of a company."""

    slug = "load-sequence-too-low"


class ForeignCnpj(Forbidden):
    """The key may not load for this company."""

    slug = "foreign-cnpj"
