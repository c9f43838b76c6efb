"""Who is to be told of which event: worked out from the events alone, and from when notifications had heard of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from scripts.demo_run.evidence import Evidence, Row, Stored, public_types

# Who hears of what. `receiver` and `volunteer` of a hold are those of its delivery; `holders` are everybody in a delivery of the
# batch, `bearers` those of deliveries that are not over.
EVERYBODY = ("provider", "receiver", "volunteer")
TOLD: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("batches", "BatchExpired"): ("provider",),
    ("batches", "BatchHoldRejected"): ("provider", "receiver"),
    ("batches", "BatchRecalled"): ("provider", "holders"),
    ("batches", "TemperatureRecorded"): ("provider", "bearers"),
    ("deliveries", "DeliveryOpened"): ("provider", "receiver"),
    **{
        ("deliveries", kind): EVERYBODY
        for kind in (
            "DeliveryClaimed", "ClaimReleased", "PickupConfirmed", "DropoffRefused", "DeliveryCompleted",
            "DeliveryCancelled", "DeliveryExpired",
        )
    },
    ("deliveries", "WaitingVolunteerCalled"): ("waiting",),
    ("deliveries", "DeliveryOffered"): ("asked",),
    ("deliveries", "DeliveryUnclaimed"): ("provider", "coordinators"),
    ("deliveries", "PickupReminded"): ("volunteer",),
    ("deliveries", "PickupDelayed"): (*EVERYBODY, "coordinators"),
    ("deliveries", "DropoffDelayed"): ("receiver", "volunteer", "coordinators"),
    ("deliveries", "RerouteAsked"): ("volunteer",),
    ("deliveries", "RerouteDelayed"): ("provider", "volunteer", "coordinators"),
    ("deliveries", "TaskCreated"): ("side",),
    ("deliveries", "TaskExpired"): ("side",),
    ("resources", "ResourceRequestFulfilled"): ("organization",),
    ("resources", "ReservationMade"): ("organization",),
    ("resources", "ReservationReceived"): ("donor",),
    ("resources", "ReservationCancelled"): ("organization", "donor"),
    ("resources", "ReservationExpired"): ("organization", "donor"),
    ("resources", "MatchProposed"): ("organization", "supplier"),
    ("resources", "MatchAccepted"): ("supplier",),
    ("resources", "MatchDeclined"): ("organization", "supplier"),
    ("resources", "MatchExpired"): ("organization",),
    ("resources", "MatchWithdrawn"): ("organization", "supplier"),
    ("identity", "OrganizationVerified"): ("organization",),
    ("identity", "OrganizationSuspended"): ("organization",),
    ("webhooks", "EndpointFailing"): ("organization",),
    ("webhooks", "EndpointDisabled"): ("organization",),
}  # fmt: skip
# What of a delivery notifications follows, to know who is in it.
FOLLOWED = (
    "DeliveryPlanned", "DeliverySplit", "DeliverySplitOff", "DeliveryOpened", "DeliveryClaimed", "ClaimReleased",
    "WaitingVolunteerCalled", "PickupConfirmed", "DropoffRefused", "DeliveryRerouted", "DeliveryCompleted",
    "DeliveryReturned", "DeliveryDiscarded", "DeliveryFailed", "DeliveryCancelled", "DeliveryExpired",
)  # fmt: skip
OVER = ("cancelled", "expired", "failed", "returned", "discarded")
LIVE = ("planned", "open", "claimed", "in_transit", "rerouting")
# What was handled this long before an event was surely known to whoever told of it; in between both is right.
SURELY = timedelta(seconds=5)
COORDINATORS = UUID(int=0)  # beside the organizations: everybody who coordinates
Told = tuple[UUID, UUID]


@dataclass(frozen=True)
class People:
    """Those who surely are concerned, and those who may be."""

    sure: frozenset[UUID] = frozenset()
    maybe: frozenset[UUID] = frozenset()

    @classmethod
    def named(cls, *people: str | None) -> Self:
        """These, without a doubt."""
        found = frozenset(UUID(one) for one in people if one)
        return cls(found, found)

    def __or__(self, other: People) -> People:
        """All of both."""
        return People(self.sure | other.sure, self.maybe | other.maybe)


@dataclass(frozen=True)
class Heard:
    """When notifications handled each message; what it has no record of counts from its own time on."""

    at: Mapping[UUID, datetime]

    @classmethod
    async def of(cls, evidence: Evidence) -> Self:
        """From its inbox."""
        names = [name for one in ("events", "access") for name in await evidence.generations("notifications", one)]
        rows = await evidence.rows(
            "notifications", "SELECT message_id, processed_at FROM inbox WHERE consumer = ANY($1::text[])", names
        )
        return cls({UUID(int=row["message_id"].int): row["processed_at"] for row in rows})

    def when(self, event: UUID, happened_at: datetime) -> datetime:
        """The moment from which it was known there."""
        return self.at.get(event, happened_at)


@dataclass
class Members:
    """Who was known as a member of which organization, from when until when."""

    spans: dict[UUID, list[tuple[UUID, datetime, datetime | None]]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, evidence: Evidence, heard: Heard) -> Self:
        """From what identity tells: memberships, and who coordinates."""
        members = cls()
        for event in evidence.of("identity", "MembershipGranted", "MembershipRevoked", "PlatformRoleGranted"):
            since = heard.when(event.id, event.at)
            if event.kind == "PlatformRoleGranted":
                if event.data["role"] == "coordinator":
                    members.spans[COORDINATORS].append((event.stream, since, None))
            else:
                members._change(event, since)
        return members

    def _change(self, event: Stored, since: datetime) -> None:
        user, spans = UUID(event.data["user_id"]), self.spans[event.stream]
        running = [span for span in spans if span[0] == user and span[2] is None]
        if event.kind == "MembershipGranted" and not running:
            spans.append((user, since, None))
        elif event.kind == "MembershipRevoked":
            for span in running:
                spans[spans.index(span)] = (user, span[1], since)

    def known(self, organization: UUID, at: datetime) -> People:
        """Its members at that time."""
        sure, maybe = set(), set()
        for user, since, until in self.spans[organization]:
            if since <= at + SURELY and (until is None or until > at - SURELY):
                maybe.add(user)
            if since <= at - SURELY and (until is None or until > at + SURELY):
                sure.add(user)
        return People(frozenset(sure), frozenset(maybe))


@dataclass(frozen=True)
class Step:
    """A delivery as one of its events told it, and when notifications knew."""

    known_at: datetime
    version: int
    status: str
    receiver: UUID
    volunteer: UUID | None
    batches: frozenset[UUID]

    def counts(self, batch: UUID, *, live: bool) -> bool:
        """Goods of the batch are in it, and in somebody's hands: still to be handed over when `live`."""
        return batch in self.batches and (self.status in LIVE if live else self.status not in OVER)


@dataclass
class Deliveries:
    """The steps of each delivery, and the deliveries of each batch."""

    steps: dict[UUID, list[Step]] = field(default_factory=lambda: defaultdict(list))
    of_batch: dict[UUID, set[UUID]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    async def of(cls, evidence: Evidence, heard: Heard) -> Self:
        """From the published events that notifications follows."""
        rows = await evidence.rows(
            "analytics",
            "SELECT event_id, version, occurred_at, data FROM audit_events WHERE type = ANY($1::text[]) AND occurred_at > $2"
            " ORDER BY subject, version",
            [public_types()["deliveries", kind] for kind in FOLLOWED],
            evidence.since,
        )
        found = cls()
        for row in rows:
            found._keep(row, heard.when(UUID(int=row["event_id"].int), row["occurred_at"]))
        return found

    def _keep(self, row: Row, known_at: datetime) -> None:
        told, volunteer = row["data"], row["data"]["volunteer_id"]
        delivery = UUID(told["delivery_id"])
        receiver = UUID(told["receiving_organization_id"])
        who = UUID(volunteer) if volunteer else None
        batches = frozenset(UUID(line["batch_id"]) for line in told["lines"])
        self.steps[delivery].append(Step(known_at, row["version"], told["status"], receiver, who, batches))
        for batch in batches:
            self.of_batch[batch].add(delivery)

    def receiver(self, delivery: str) -> UUID | None:
        """Who receives it in the end."""
        steps = self.steps.get(UUID(delivery))
        return steps[-1].receiver if steps else None

    def around(self, batch: UUID, at: datetime, *, live: bool) -> Iterator[tuple[bool, list[Step]]]:
        """Of each delivery of a batch that counts: whether it surely does, and every step it may have been at."""
        for delivery in self.of_batch[batch]:
            steps = self.steps[delivery]
            before = max((step.version for step in steps if step.known_at <= at - SURELY), default=0)
            possible = [step for step in steps if step.version >= before and step.known_at <= at + SURELY]
            counting = [step for step in possible if step.counts(batch, live=live)]
            if counting:
                yield before > 0 and len(counting) == len(possible), counting


@dataclass
class Audience:
    """Works out who is to be told."""

    heard: Heard
    members: Members
    deliveries: Deliveries
    suspended: frozenset[UUID]

    @classmethod
    async def of(cls, evidence: Evidence) -> Self:
        """From everything there is."""
        heard = await Heard.of(evidence)
        suspended = frozenset(event.stream for event in evidence.of("identity", "UserSuspended"))
        return cls(heard, Members.of(evidence, heard), await Deliveries.of(evidence, heard), suspended)

    def of_event(self, row: Row, parts: Sequence[str]) -> tuple[set[Told], set[Told]]:
        """(who surely is told of it, who may be), as (event, person); never who caused it."""
        event = UUID(int=row["event_id"].int)
        at = self.heard.when(event, row["occurred_at"])
        found = People()
        for part in parts if self._is_told(row) else ():
            found |= self._part(row["data"], part, at)
        actor = {UUID(row["actor_id"])} if row["actor_id"] else set()
        sure = found.sure - actor - self.suspended
        return {(event, one) for one in sure}, {(event, one) for one in found.maybe - actor}

    def _is_told(self, row: Row) -> bool:
        """A reading in band is nothing to tell."""
        return not row["data"].get("in_band", False)

    def _part(self, data: Mapping[str, Any], part: str, at: datetime) -> People:
        match part:
            case "volunteer":
                return People.named(data.get("volunteer_id") or data.get("previous_volunteer_id"))
            case "waiting":
                return People.named(data["waiting_id"])
            case "asked":
                return People.named(*data["volunteer_ids"])
            case "coordinators":
                return self.members.known(COORDINATORS, at)
            case "side":
                return self._side(data, at)
            case "holders" | "bearers":
                return self._around(UUID(data["batch_id"]), at, live=part == "bearers")
            case _:
                return self._of(self._organizations(data, part), at)

    def _of(self, organizations: Iterable[UUID | str | None], at: datetime) -> People:
        found = People()
        for organization in organizations:
            if organization:
                found |= self.members.known(UUID(str(organization)), at)
        return found

    def _side(self, data: Mapping[str, Any], at: datetime) -> People:
        if data["role"] == "coordinator":
            return self.members.known(COORDINATORS, at)
        return self._of(data["assigned_organization_ids"], at) | People.named(data["volunteer_id"])

    def _around(self, batch: UUID, at: datetime, *, live: bool) -> People:
        found = People()
        for surely, steps in self.deliveries.around(batch, at, live=live):
            each = [self._of([step.receiver], at) | People.named(str(step.volunteer or "")) for step in steps]
            sure = frozenset.intersection(*(one.sure for one in each)) if surely else frozenset()
            found |= People(sure, frozenset().union(*(one.maybe for one in each)))
        return found

    def _organizations(self, data: Mapping[str, Any], part: str) -> list[UUID | str | None]:
        match part:
            case "provider":
                return data.get("provider_organization_ids") or [data["organization_id"]]
            case "receiver":
                return [data.get("receiving_organization_id") or self.deliveries.receiver(data["delivery_id"])]
            case "donor":
                return [data["donor_organization_id"]]
            case "supplier":
                return [data["provider_organization_id"]]
            case _:
                return [data["organization_id"]]
