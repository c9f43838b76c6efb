"""Who is told what, when a mail may go, and when trying again ends; pure, and told the time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from chassis.kernel import Conflict, Invalid, NotFound

# ---------------------------------------------------------------- who is told what


class Kind(StrEnum):
    """What people are told about; the name of the template. Kinds are only ever added: notifications are kept."""

    BATCH_READY = "batch_ready"
    BATCH_EXPIRED = "batch_expired"
    BATCH_RECALLED = "batch_recalled"
    TEMPERATURE_ALARM = "temperature_alarm"
    HOLD_REJECTED = "hold_rejected"
    DELIVERY_OPENED = "delivery_opened"
    DELIVERY_CLAIMED = "delivery_claimed"
    CLAIM_RELEASED = "claim_released"
    WAITING_CALLED = "waiting_called"
    DELIVERY_PICKED_UP = "delivery_picked_up"
    DELIVERY_REFUSED = "delivery_refused"
    DELIVERY_COMPLETED = "delivery_completed"
    DELIVERY_CANCELLED = "delivery_cancelled"
    DELIVERY_EXPIRED = "delivery_expired"
    DELIVERY_OFFERED = "delivery_offered"
    DELIVERY_UNCLAIMED = "delivery_unclaimed"
    PICKUP_REMINDED = "pickup_reminded"
    PICKUP_DELAYED = "pickup_delayed"
    DROPOFF_DELAYED = "dropoff_delayed"
    REROUTE_ASKED = "reroute_asked"
    REROUTE_DELAYED = "reroute_delayed"
    TASK_CREATED = "task_created"
    TASK_EXPIRED = "task_expired"
    REQUEST_FULFILLED = "request_fulfilled"
    RESERVATION_MADE = "reservation_made"
    RESERVATION_RECEIVED = "reservation_received"
    RESERVATION_CANCELLED = "reservation_cancelled"
    RESERVATION_EXPIRED = "reservation_expired"
    MATCH_PROPOSED = "match_proposed"
    MATCH_ACCEPTED = "match_accepted"
    MATCH_DECLINED = "match_declined"
    MATCH_EXPIRED = "match_expired"
    MATCH_WITHDRAWN = "match_withdrawn"
    ORGANIZATION_VERIFIED = "organization_verified"
    ORGANIZATION_SUSPENDED = "organization_suspended"
    ENDPOINT_FAILING = "endpoint_failing"
    ENDPOINT_DISABLED = "endpoint_disabled"


class Party(StrEnum):
    """A part somebody has in an event; organizations stand for their members."""

    PROVIDER = "provider"
    RECEIVER = "receiver"
    DONOR = "donor"
    ORGANIZATION = "organization"
    ASSIGNEE = "assignee"
    VOLUNTEER = "volunteer"
    COORDINATOR = "coordinator"  # whoever coordinates: an event names none of them


@dataclass(frozen=True, slots=True)
class Telling:
    """What an event is to people and who hears of it; never the person who caused it."""

    kind: Kind
    to: frozenset[Party]


def _told(kind: Kind, *parties: Party) -> Telling:
    return Telling(kind, frozenset(parties))


_EVERYBODY = (Party.PROVIDER, Party.RECEIVER, Party.VOLUNTEER)

TELLINGS: Mapping[str, Telling] = {
    "BatchExpired": _told(Kind.BATCH_EXPIRED, Party.PROVIDER),
    "BatchRecalled": _told(Kind.BATCH_RECALLED, *_EVERYBODY),  # receivers and volunteers of every delivery of it
    "TemperatureRecorded": _told(Kind.TEMPERATURE_ALARM, *_EVERYBODY),  # out of band; of every delivery not over yet
    "BatchHoldRejected": _told(Kind.HOLD_REJECTED, Party.PROVIDER, Party.RECEIVER),
    "DeliveryOpened": _told(Kind.DELIVERY_OPENED, Party.PROVIDER, Party.RECEIVER),
    "DeliveryClaimed": _told(Kind.DELIVERY_CLAIMED, *_EVERYBODY),
    "ClaimReleased": _told(Kind.CLAIM_RELEASED, *_EVERYBODY),
    "WaitingVolunteerCalled": _told(Kind.WAITING_CALLED, Party.VOLUNTEER),  # who waited, not who gave it back
    "PickupConfirmed": _told(Kind.DELIVERY_PICKED_UP, *_EVERYBODY),
    "DropoffRefused": _told(Kind.DELIVERY_REFUSED, *_EVERYBODY),
    "DeliveryCompleted": _told(Kind.DELIVERY_COMPLETED, *_EVERYBODY),
    "DeliveryCancelled": _told(Kind.DELIVERY_CANCELLED, *_EVERYBODY),
    "DeliveryExpired": _told(Kind.DELIVERY_EXPIRED, *_EVERYBODY),
    "DeliveryOffered": _told(Kind.DELIVERY_OFFERED, Party.VOLUNTEER),
    "DeliveryUnclaimed": _told(Kind.DELIVERY_UNCLAIMED, Party.PROVIDER, Party.COORDINATOR),
    "PickupReminded": _told(Kind.PICKUP_REMINDED, Party.VOLUNTEER),
    "PickupDelayed": _told(Kind.PICKUP_DELAYED, *_EVERYBODY, Party.COORDINATOR),
    "DropoffDelayed": _told(Kind.DROPOFF_DELAYED, Party.RECEIVER, Party.VOLUNTEER, Party.COORDINATOR),
    "RerouteAsked": _told(Kind.REROUTE_ASKED, Party.VOLUNTEER),
    "RerouteDelayed": _told(Kind.REROUTE_DELAYED, Party.PROVIDER, Party.VOLUNTEER, Party.COORDINATOR),
    "TaskCreated": _told(Kind.TASK_CREATED, Party.ASSIGNEE, Party.VOLUNTEER, Party.COORDINATOR),
    "TaskExpired": _told(Kind.TASK_EXPIRED, Party.ASSIGNEE, Party.VOLUNTEER, Party.COORDINATOR),
    "ResourceRequestFulfilled": _told(Kind.REQUEST_FULFILLED, Party.RECEIVER),
    "ReservationMade": _told(Kind.RESERVATION_MADE, Party.RECEIVER),
    "ReservationReceived": _told(Kind.RESERVATION_RECEIVED, Party.DONOR),
    "ReservationCancelled": _told(Kind.RESERVATION_CANCELLED, Party.RECEIVER, Party.DONOR),
    "ReservationExpired": _told(Kind.RESERVATION_EXPIRED, Party.RECEIVER, Party.DONOR),
    "MatchProposed": _told(Kind.MATCH_PROPOSED, Party.PROVIDER, Party.RECEIVER),
    "MatchAccepted": _told(Kind.MATCH_ACCEPTED, Party.PROVIDER),  # the receiver hears of the reservation that it became
    "MatchDeclined": _told(Kind.MATCH_DECLINED, Party.PROVIDER, Party.RECEIVER),
    "MatchExpired": _told(Kind.MATCH_EXPIRED, Party.RECEIVER),
    "MatchWithdrawn": _told(Kind.MATCH_WITHDRAWN, Party.PROVIDER, Party.RECEIVER),
    "OrganizationVerified": _told(Kind.ORGANIZATION_VERIFIED, Party.ORGANIZATION),
    "OrganizationSuspended": _told(Kind.ORGANIZATION_SUSPENDED, Party.ORGANIZATION),
    "EndpointFailing": _told(Kind.ENDPOINT_FAILING, Party.ORGANIZATION),
    "EndpointDisabled": _told(Kind.ENDPOINT_DISABLED, Party.ORGANIZATION),
}

DIRECTORY_LAG_MAX = timedelta(seconds=60)  # past it, those who are known are told and nobody is waited for
OVER = ("cancelled", "expired", "failed", "returned", "discarded")  # deliveries whose goods nobody took home
LIVE = ("planned", "open", "claimed", "in_transit", "rerouting")  # deliveries whose goods are still to be handed over


@dataclass(frozen=True, slots=True)
class Fact:
    """One event as notifications sees it: `context` fills the template, `place_id` gives its time zone."""

    event_id: UUID
    name: str
    type: str
    subject: UUID
    version: int
    happened_at: datetime
    parties: Mapping[Party, Sequence[UUID]]
    context: Mapping[str, Any]
    actor_id: UUID | None = None
    place_id: UUID | None = None

    @property
    def telling(self) -> Telling:
        """What it is to people."""
        return TELLINGS[self.name]

    @property
    def is_critical(self) -> bool:
        """Passes quiet hours: a recall, and a cancellation when somebody is on the way already."""
        late = self.telling.kind is Kind.DELIVERY_CANCELLED and bool(self.parties.get(Party.VOLUNTEER))
        return late or self.telling.kind is Kind.BATCH_RECALLED

    @property
    def organization_ids(self) -> list[UUID]:
        """The organizations whose members are told."""
        parties = self.telling.to - {Party.VOLUNTEER, Party.COORDINATOR}
        return sorted({each for party in parties for each in self.parties.get(party, ())})

    @property
    def person_ids(self) -> list[UUID]:
        """The people who are told themselves."""
        return sorted(set(self.parties.get(Party.VOLUNTEER, ())) if Party.VOLUNTEER in self.telling.to else ())

    @property
    def tells_coordinators(self) -> bool:
        """Coordinators are told, whoever they are; a task that is for somebody else does not name them."""
        return Party.COORDINATOR in self.telling.to and Party.COORDINATOR in self.parties

    def may_wait(self, now: datetime) -> bool:
        """It is recent enough that what is missing may still be on its way."""
        return now - self.happened_at < DIRECTORY_LAG_MAX


@dataclass(frozen=True, slots=True)
class Followed:
    """Who has a part in a delivery, as its newest event said."""

    provider_ids: tuple[UUID, ...]
    receiver_id: UUID
    volunteer_id: UUID | None


class DirectoryBehind(Conflict):
    """Something the event needs (an organization, its members, a delivery) has not arrived here yet."""

    slug = "directory-behind"


class NotificationNotFound(NotFound):
    """No such notification, or not in the caller's inbox."""

    slug = "notification-not-found"


class UnsubscribeLinkUnknown(NotFound):
    """The link was not made by us."""

    slug = "unsubscribe-link-unknown"


class TimeZoneUnknown(Invalid):
    """Nowhere on Earth has this zone."""

    slug = "time-zone-unknown"


# ---------------------------------------------------------------- when a mail may go


def zone_of(name: str) -> ZoneInfo:
    """The IANA zone; raises `TimeZoneUnknown`."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise TimeZoneUnknown("no such time zone", pointer="/quiet_hours/tz") from error


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A half-open span of the person's day, over midnight when `to` is not after `from`; empty when they are equal."""

    from_: time
    to: time
    tz: str

    def end(self, now: datetime) -> datetime | None:
        """When the quiet that lies over `now` ends, or None when nothing is quiet now."""
        zone = zone_of(self.tz)
        local = now.astimezone(zone)
        clock = local.time()
        if self.from_ <= self.to:
            quiet, ends_tomorrow = self.from_ <= clock < self.to, False
        else:
            quiet, ends_tomorrow = clock >= self.from_ or clock < self.to, clock >= self.from_
        if not quiet:
            return None
        day = local.date() + timedelta(days=ends_tomorrow)
        # Where clocks are turned back the same wall time comes twice; the end is never in the past.
        return max(datetime.combine(day, self.to, zone).astimezone(UTC), now + timedelta(minutes=1))


@dataclass(frozen=True, slots=True)
class Preferences:
    """How a person wants to be told; without a `locale` it is the account's."""

    email: bool = True
    locale: str | None = None
    quiet_hours: QuietHours | None = None

    @classmethod
    def stored(
        cls, *, email: bool, locale: str | None, quiet_from: time | None, quiet_to: time | None, quiet_tz: str | None
    ) -> Preferences:
        """From columns, the last three of which are all there or none."""
        if quiet_from is None or quiet_to is None or quiet_tz is None:
            return cls(email=email, locale=locale)
        return cls(email=email, locale=locale, quiet_hours=QuietHours(quiet_from, quiet_to, quiet_tz))


class Status(StrEnum):
    """Where a message is; every one but `queued` and `deferred` is an end, except that what was sent may be read."""

    QUEUED = "queued"
    DEFERRED = "deferred"
    SENT = "sent"
    READ = "read"
    FAILED = "failed"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt; `due_at` when there will be another."""

    status: Status
    due_at: datetime | None = None
    reference: str | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """A claimed e-mail; `attempt` counts from 1 and is the lease's fence. `address` is None for people who are gone."""

    message_id: UUID
    attempt: int
    user_id: UUID
    kind: Kind
    context: Mapping[str, Any]
    critical: bool
    locale: str
    preferences: Preferences
    correlation_id: str
    traceparent: str
    address: str | None = field(default=None, repr=False)

    def before_sending(self, now: datetime) -> Outcome | None:
        """Why it is not sent now, or None when it may go."""
        if self.address is None:
            return Outcome(Status.FAILED, failure="no-address")
        if not self.preferences.email:
            return Outcome(Status.SUPPRESSED, failure="not-wanted")
        if self.attempt > ATTEMPTS_MAX:  # each attempt ended without a word: the process died every time
            return Outcome(Status.FAILED, failure="interrupted")
        quiet = self.preferences.quiet_hours
        until = None if quiet is None or self.critical else quiet.end(now)
        return None if until is None else Outcome(Status.DEFERRED, due_at=until)

    def after_trouble(self, failure: str, *, permanent: bool, now: datetime) -> Outcome:
        """Another attempt later, or the end."""
        if permanent or self.attempt >= ATTEMPTS_MAX:
            return Outcome(Status.FAILED, failure=failure)
        return Outcome(Status.QUEUED, due_at=now + RETRY_DELAYS[self.attempt - 1], failure=failure)


# An outage of a night is survived: together about 15 h, inside the day that a message lives.
RETRY_DELAYS = tuple(timedelta(seconds=s) for s in (5, 60, 300, 1_800, 7_200, 14_400, 28_800))
ATTEMPTS_MAX = len(RETRY_DELAYS) + 1


@dataclass(frozen=True, slots=True)
class Contact:
    """Where and how a person is reached, as identity tells it."""

    email: str = field(repr=False)
    locale: str
    display_name: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class WantedContact:
    """Somebody whose address has to be asked for; `attempt` counts from 1 and is the lease's fence."""

    user_id: UUID
    attempt: int

    @property
    def retry_delay_s(self) -> float:
        """From 1 s doubling to 5 min, for as long as it takes: without an address nothing can be sent."""
        return float(min(2 ** min(self.attempt - 1, 10), 300))


# ---------------------------------------------------------------- unsubscribing

_MAC_BYTES = 16


def unsubscribe_token(secret: bytes, user_id: UUID) -> str:
    """A link's last part that only we can make; it never expires, for mails are kept for years."""
    return base64.urlsafe_b64encode(_mac(secret, user_id.bytes) + user_id.bytes).decode().rstrip("=")


def user_of(secret: bytes, token: str) -> UUID:
    """Whose link it is; raises `UnsubscribeLinkUnknown` for anything that `unsubscribe_token` did not make."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        mac, user = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if len(user) != 16 or not hmac.compare_digest(mac, _mac(secret, user)):
            raise ValueError
    except (ValueError, binascii.Error) as error:
        raise UnsubscribeLinkUnknown from error
    return UUID(bytes=user)


def _mac(secret: bytes, user: bytes) -> bytes:
    return hmac.digest(hashlib.sha256(b"unsubscribe" + secret).digest(), user, "sha256")[:_MAC_BYTES]
