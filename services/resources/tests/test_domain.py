"""The rules of a request and its reservations, without I/O: given, when, then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from chassis.kernel import Invalid, InvalidTransition
from resources import domain
from resources.domain import (
    ALLOWED,
    EVENTS,
    RESERVATION_ALLOWED,
    DeliveryId,
    Goods,
    LineId,
    Mode,
    Need,
    OrganizationId,
    PlaceId,
    RequestId,
    ReservationId,
    ReservationState,
    ResourceRequest,
    Status,
    Urgency,
    UserId,
)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
NEXT_WEEK = NOW + timedelta(days=7)
REQUEST = RequestId(UUID(int=1))
WATER, SOAP = LineId(UUID(int=10)), LineId(UUID(int=11))
DONOR, SHELTER = OrganizationId(UUID(int=20)), OrganizationId(UUID(int=21))
VAN = DeliveryId(UUID(int=60))
ANA, BIA = UserId(UUID(int=30)), UserId(UUID(int=31))
FIRST, SECOND = ReservationId(UUID(int=40)), ReservationId(UUID(int=41))


def a_need(line_id: LineId = WATER, **changes: Any) -> Need:
    """Ten bottles, unless told otherwise."""
    told: dict[str, Any] = {"name": "Água", "unit": "unit", "needed": 10, "category": "beverage"}
    return Need(line_id=line_id, **(told | changes))


def a_request(*lines: Need, **changes: Any) -> ResourceRequest:
    """An open request for ten of one thing, unless told otherwise."""
    told: dict[str, Any] = {
        "organization_id": SHELTER,
        "place_id": PlaceId(UUID(int=22)),
        "title": "Abrigo",
        "urgency": Urgency.HIGH,
        "needed_by_at": NEXT_WEEK,
        "lines": lines or (a_need(),),
        "opened_by": ANA,
        "now": NOW,
    }
    return ResourceRequest.open(REQUEST, **(told | changes))


def reserve(
    request: ResourceRequest,
    quantities: dict[LineId, int],
    reservation_id: ReservationId = FIRST,
    *,
    now: datetime = NOW,
) -> None:
    """A donor promises something."""
    request.reserve(
        reservation_id,
        organization_id=DONOR,
        reserved_by=ANA,
        mode=Mode.DONOR_DELIVERS,
        quantities=quantities,
        now=now,
    )


def a_reserved(quantity: int = 4) -> ResourceRequest:
    """Part of the ten is promised."""
    request = a_request()
    reserve(request, {WATER: quantity})
    return request


def a_started(quantity: int = 4) -> ResourceRequest:
    """Part of the ten is on its way."""
    request = a_reserved(quantity)
    request.start(FIRST)
    return request


def bring(
    request: ResourceRequest, *goods: tuple[str, str, int], delivery_id: DeliveryId = VAN, giver: OrganizationId = DONOR
) -> None:
    """A delivery arrives with (category, unit, quantity)s."""
    request.receive_delivery(
        delivery_id,
        brought_by=[giver],
        goods=[Goods(category=category, unit=unit, quantity=quantity) for category, unit, quantity in goods],
        now=NOW,
    )


def recorded(request: ResourceRequest) -> list[str]:
    """The names of what happened, in order."""
    return [type(event).__name__ for event in request.pending]


def covered(request: ResourceRequest, line_id: LineId = WATER) -> tuple[int, int, int]:
    """needed, reserved, received of a line."""
    line = request.lines[line_id]
    return line.needed, line.reserved, line.received


def test_a_request_is_open_and_uncovered() -> None:
    """Everything can be reserved at once."""
    request = a_request()

    assert request.status is Status.OPEN
    assert request.lines[WATER].uncovered == request.lines[WATER].needed


@pytest.mark.parametrize(
    "lines",
    [
        (a_need(needed=0),),
        (a_need(needed=-1),),
        (a_need(), a_need()),
        (a_need(category=None),),
        tuple(a_need(LineId(UUID(int=n))) for n in range(101)),
    ],
)
def test_needs_that_cannot_be_meant_are_invalid(lines: tuple[Need, ...]) -> None:
    """Up to a hundred lines, each once, each of some quantity, each by category or GTIN."""
    with pytest.raises(Invalid):
        a_request(*lines)


def test_a_need_of_the_past_is_invalid() -> None:
    """Nothing can be needed by now or earlier."""
    with pytest.raises(Invalid):
        a_request(needed_by_at=NOW)


def test_a_reservation_covers_part_of_a_need() -> None:
    """What is reserved cannot be reserved again."""
    request = a_reserved(4)

    assert covered(request) == (10, 4, 0)
    assert request.reservations[FIRST].expires_at == NOW + timedelta(hours=48)


def test_the_same_reservation_twice_is_made_once() -> None:
    """A repeated command records nothing."""
    request = a_reserved(4)

    reserve(request, {WATER: 4})

    assert recorded(request).count("ReservationMade") == 1


def test_reservations_never_exceed_the_need() -> None:
    """Exactly what is uncovered can be reserved, one more cannot."""
    request = a_reserved(4)

    with pytest.raises(domain.NeedExceeded):
        reserve(request, {WATER: 7}, SECOND)
    reserve(request, {WATER: 6}, SECOND)

    assert covered(request) == (10, 10, 0)


@pytest.mark.parametrize(
    ("quantities", "refusal"),
    [({}, Invalid), ({WATER: 0}, Invalid), ({WATER: -3}, Invalid), ({SOAP: 1}, domain.LineNotFound)],
)
def test_a_reservation_names_lines_and_quantities(quantities: dict[LineId, int], refusal: type[Exception]) -> None:
    """At least one line of the request, each with some quantity."""
    with pytest.raises(refusal):
        reserve(a_request(), quantities)


def test_nothing_is_reserved_after_its_time() -> None:
    """At the needed-by time no promise helps any more, timer or not."""
    with pytest.raises(domain.NeededByPassed):
        reserve(a_request(), {WATER: 1}, now=NEXT_WEEK)


def test_what_arrives_is_received_and_the_rest_needed_again() -> None:
    """A promise of four of which three arrived leaves seven to cover."""
    request = a_started(4)

    request.receive(FIRST, received_by=BIA, now=NOW, quantities={WATER: 3})

    assert covered(request) == (10, 0, 3)
    assert request.reservations[FIRST].state is ReservationState.RECEIVED


@pytest.mark.parametrize(
    ("arrived", "refusal"),
    [
        ({WATER: 5}, domain.ReceivedMoreThanReserved),
        ({WATER: -1}, domain.ReceivedMoreThanReserved),
        ({WATER: 0}, domain.NothingReceived),
        ({SOAP: 1}, domain.LineNotFound),
    ],
)
def test_no_more_arrives_than_was_promised(arrived: dict[LineId, int], refusal: type[Exception]) -> None:
    """0 ≤ received ≤ reserved for every line, and something."""
    with pytest.raises(refusal):
        a_started(4).receive(FIRST, received_by=BIA, now=NOW, quantities=arrived)


def test_the_last_reception_fulfils_the_request() -> None:
    """Fulfilled when every line is received in full, not earlier."""
    request = a_request(a_need(), a_need(SOAP, needed=2))
    reserve(request, {WATER: 10})
    reserve(request, {SOAP: 2}, SECOND)
    request.start(FIRST)
    request.start(SECOND)

    request.receive(FIRST, received_by=BIA, now=NOW)
    still = request.status
    request.receive(SECOND, received_by=BIA, now=NOW)

    assert (still, request.status) == (Status.OPEN, Status.FULFILLED)


@pytest.mark.parametrize(
    "end",
    [
        lambda request: request.cancel_reservation(FIRST, reason="test"),
        lambda request: request.expire_reservation(FIRST, now=NOW + timedelta(hours=48)),
        lambda request: (request.start(FIRST), request.refuse(FIRST, refused_by=BIA, reason="test")),
    ],
)
def test_a_promise_that_fails_is_needed_again(end: Callable[[ResourceRequest], None]) -> None:
    """Cancelled, expired and refused reservations free what they covered."""
    request = a_reserved(4)

    end(request)

    assert covered(request) == (10, 0, 0)


def test_a_promise_expires_after_48_hours_unless_it_is_on_its_way() -> None:
    """An early or repeated timer records nothing, and neither does one for a promise on its way."""
    waiting, moving = a_reserved(), a_started()
    due = NOW + timedelta(hours=48)

    waiting.expire_reservation(FIRST, now=due - timedelta(seconds=1))
    for request in (waiting, moving):
        request.expire_reservation(FIRST, now=due)
        request.expire_reservation(FIRST, now=due)

    assert recorded(waiting).count("ReservationExpired") == 1
    assert moving.reservations[FIRST].state is ReservationState.IN_DELIVERY


def test_a_request_expires_at_its_time() -> None:
    """Early or repeated timers record nothing."""
    request = a_request()

    request.expire(now=NEXT_WEEK - timedelta(seconds=1))
    still = request.status
    request.expire(now=NEXT_WEEK)
    request.expire(now=NEXT_WEEK)

    assert (still, request.status) == (Status.OPEN, Status.EXPIRED)
    assert recorded(request).count("ResourceRequestExpired") == 1


def test_an_ended_request_drops_promises_but_not_what_is_on_its_way() -> None:
    """What is on its way can still be received; the end stays the end."""
    request = a_started(4)
    reserve(request, {WATER: 6}, SECOND)

    request.close(reason="enough")
    request.receive(FIRST, received_by=BIA, now=NOW)

    assert request.reservations[SECOND].state is ReservationState.CANCELLED
    assert covered(request) == (10, 0, 4)
    assert request.status is Status.CLOSED


def test_a_change_keeps_what_is_promised() -> None:
    """A line may grow, and shrink to what is reserved and received, not below; nor become something else."""
    request = a_reserved(4)

    for needs in ((a_need(needed=3),), (a_need(SOAP),), (a_need(unit="ml"),)):
        with pytest.raises(domain.NeedCommitted):
            request.change(now=NOW, lines=needs)
    request.change(now=NOW, title="Abrigo 2", lines=(a_need(needed=4), a_need(SOAP)))

    assert request.title == "Abrigo 2"
    assert covered(request) == (4, 4, 0)
    assert covered(request, SOAP) == (10, 0, 0)


def test_a_change_can_fulfil() -> None:
    """Needing no more than what was received fulfils the request."""
    request = a_started(4)
    request.receive(FIRST, received_by=BIA, now=NOW)

    request.change(now=NOW, lines=(a_need(needed=4),))

    assert request.status is Status.FULFILLED


def test_an_unknown_reservation_is_not_found() -> None:
    """A command about a promise nobody made is an error."""
    with pytest.raises(domain.ReservationNotFound):
        a_request().start(FIRST)


def test_a_need_may_have_no_last_day() -> None:
    """Without a needed-by time a request takes promises at any time and never expires."""
    request = a_request(needed_by_at=None)

    reserve(request, {WATER: 1}, now=NOW + timedelta(days=4000))
    request.expire(now=NOW + timedelta(days=4000))

    assert request.status is Status.OPEN


def test_an_organization_does_not_give_to_itself() -> None:
    """Who needs something cannot be who promised it."""
    request = a_request(organization_id=DONOR)

    with pytest.raises(domain.OwnRequest):
        reserve(request, {WATER: 1})


@pytest.mark.parametrize(
    "take",
    [
        lambda request: request.receive(FIRST, received_by=ANA, now=NOW),
        lambda request: request.refuse(FIRST, refused_by=ANA, reason="test"),
    ],
)
def test_nobody_is_giver_and_taker(take: Callable[[ResourceRequest], None]) -> None:
    """Who promised neither receives nor refuses it for the place."""
    with pytest.raises(domain.SamePerson):
        take(a_started())


def test_a_request_takes_a_bounded_number_of_promises() -> None:
    """Reservations that came and went count too: the request is loaded whole."""
    request = a_request(a_need(needed=1))
    for number in range(domain.RESERVATIONS_MAX):
        reservation_id = ReservationId(UUID(int=1000 + number))
        reserve(request, {WATER: 1}, reservation_id)
        request.cancel_reservation(reservation_id, reason="test")

    with pytest.raises(domain.TooManyReservations):
        reserve(request, {WATER: 1})


def test_a_delivery_covers_lines_of_its_goods() -> None:
    """What was delivered counts for lines of the same category and unit, those that ask for no product first."""
    request = a_request(
        a_need(SOAP, gtin="7891000100103"),
        a_need(),
        a_need(LineId(UUID(int=12)), unit="ml"),
        a_need(LineId(UUID(int=13)), category=None, gtin="7891000100103"),
    )

    bring(request, ("beverage", "unit", 7), ("beverage", "unit", 5), ("dry", "unit", 3))

    assert (covered(request), covered(request, SOAP)) == ((10, 0, 10), (10, 0, 2))
    assert covered(request, LineId(UUID(int=12))) == covered(request, LineId(UUID(int=13))) == (10, 0, 0)


def test_a_delivery_never_exceeds_the_need() -> None:
    """What nobody needs or somebody else promised is kept as excess and counts for nothing."""
    request = a_reserved(4)

    bring(request, ("beverage", "unit", 9), ("dry", "g", 100))

    event = request.pending[-1]
    assert covered(request) == (10, 4, 6)
    assert event.excess == (
        Goods(category="beverage", unit="unit", quantity=3),
        Goods(category="dry", unit="g", quantity=100),
    )


def test_a_delivery_counts_once() -> None:
    """The same delivery again records nothing; another one counts."""
    request = a_request()

    bring(request, ("beverage", "unit", 2))
    bring(request, ("beverage", "unit", 2))
    bring(request, ("beverage", "unit", 3), delivery_id=DeliveryId(UUID(int=61)))

    assert covered(request) == (10, 0, 5)


def test_a_delivery_keeps_the_promise_that_went_with_it() -> None:
    """A promise started with the delivery is received by it; what it lacks is needed again, what is more counts too."""
    request = a_request(a_need(), a_need(SOAP, category="hygiene"))
    reserve(request, {WATER: 4, SOAP: 2})
    request.start(FIRST, delivery_id=VAN)

    bring(request, ("beverage", "unit", 3), ("hygiene", "unit", 5))

    assert request.reservations[FIRST].received == {WATER: 3, SOAP: 2}
    assert request.reservations[FIRST].state is ReservationState.RECEIVED
    assert (covered(request), covered(request, SOAP)) == ((10, 0, 3), (10, 0, 5))


def test_a_product_is_covered_by_that_product() -> None:
    """Goods whose GTIN is known go to lines that name it first, then to those of any product, never to other products."""
    milk, other = "7891000100103", "7891000315507"
    request = a_request(
        a_need(),
        a_need(SOAP, gtin=other),
        a_need(LineId(UUID(int=12)), category=None, gtin=milk, needed=4),
    )

    request.receive_delivery(
        VAN,
        brought_by=[DONOR],
        goods=[Goods(category="beverage", unit="unit", quantity=9, gtin=milk)],
        now=NOW,
    )

    assert covered(request, LineId(UUID(int=12))) == (4, 0, 4)
    assert covered(request) == (10, 0, 5)
    assert covered(request, SOAP) == (10, 0, 0)


def test_what_a_delivery_hands_over_in_parts_counts_once() -> None:
    """Each step tells the total so far: only what is more than before counts."""
    request = a_request()

    for so_far in (2, 2, 5):
        bring(request, ("beverage", "unit", so_far))

    assert covered(request) == (10, 0, 5)
    assert recorded(request).count("ResourceRequestDeliveryReceived") == 2


def test_a_delivery_that_counted_before_totals_were_kept_counts_no_more() -> None:
    """Facts of the time when a delivery counted whole and once are still understood."""
    request = a_request()
    bring(request, ("beverage", "unit", 2))
    before = [replace(event, totals=()) if hasattr(event, "totals") else event for event in request.pending]
    folded = ResourceRequest.fold(REQUEST, before)

    bring(folded, ("beverage", "unit", 2))

    assert covered(folded) == (10, 0, 2)


def a_volunteers_promise(quantity: int = 4, reservation_id: ReservationId = FIRST) -> ResourceRequest:
    """Part of the ten is promised, to be fetched by a volunteer."""
    request = a_request()
    promise(request, quantity, reservation_id)
    return request


def promise(request: ResourceRequest, quantity: int, reservation_id: ReservationId) -> None:
    """The donor promises water that a volunteer fetches."""
    request.reserve(
        reservation_id,
        organization_id=DONOR,
        reserved_by=ANA,
        mode=Mode.VOLUNTEER_PICKUP,
        quantities={WATER: quantity},
        now=NOW,
    )


def water(quantity: int) -> list[Goods]:
    """Bottles, as deliveries tell them."""
    return [Goods(category="beverage", unit="unit", quantity=quantity)]


def test_a_planned_delivery_takes_its_givers_promises_along() -> None:
    """As far as its goods go, promises that volunteers fetch set out with it; others of the giver and of others wait."""
    request = a_volunteers_promise(4)
    promise(request, 3, SECOND)
    reserve(request, {WATER: 1}, third := ReservationId(UUID(int=42)))

    request.plan_delivery(VAN, brought_by=[OrganizationId(UUID(int=99))], goods=water(10))
    request.plan_delivery(VAN, brought_by=[DONOR], goods=water(4))
    request.plan_delivery(VAN, brought_by=[DONOR], goods=water(4))

    states = [request.reservations[each].state for each in (FIRST, SECOND, third)]
    assert states == [ReservationState.IN_DELIVERY, ReservationState.RESERVED, ReservationState.RESERVED]
    assert request.reservations[FIRST].delivery_id == VAN
    assert recorded(request).count("ReservationStarted") == 1


def test_goods_that_arrive_keep_a_promise_that_was_not_started() -> None:
    """What the giver's volunteer brings is what the giver promised, also when nobody said that it set out."""
    request = a_volunteers_promise(4)

    bring(request, ("beverage", "unit", 6))

    assert covered(request) == (10, 0, 6)
    assert request.reservations[FIRST].received == {WATER: 4}
    assert recorded(request)[-3:] == ["ReservationStarted", "ReservationReceived", "ResourceRequestDeliveryReceived"]


def test_a_promise_whose_delivery_ends_is_needed_again() -> None:
    """What set out with it and did not arrive is free; other promises and what arrived stay; a repeated end records nothing."""
    request = a_volunteers_promise(4)
    promise(request, 3, SECOND)
    request.start(FIRST, delivery_id=VAN)
    request.start(SECOND, delivery_id=DeliveryId(UUID(int=61)))

    request.lose_delivery(VAN, reason="delivery-failed")
    request.lose_delivery(VAN, reason="delivery-failed")

    assert covered(request) == (10, 3, 0)
    assert request.reservations[FIRST].state is ReservationState.CANCELLED
    assert recorded(request).count("ReservationCancelled") == 1


def test_a_promise_that_set_out_with_an_unknown_delivery_expires() -> None:
    """A delivery of which nothing was heard within 48 hours brings nothing."""
    request, due = a_reserved(4), NOW + timedelta(hours=48)
    request.start(FIRST, delivery_id=VAN)

    request.expire_reservation(FIRST, now=due - timedelta(seconds=1), in_sight=False)
    request.expire_reservation(FIRST, now=due, in_sight=True)
    still = request.reservations[FIRST].state
    request.expire_reservation(FIRST, now=due, in_sight=False)

    assert still is ReservationState.IN_DELIVERY
    assert request.reservations[FIRST].state is ReservationState.EXPIRED


def test_a_delivery_of_others_keeps_nobodys_promise() -> None:
    """Naming somebody else's delivery does not make its goods one's own gift."""
    request = a_reserved(4)
    request.start(FIRST, delivery_id=VAN)

    bring(request, ("beverage", "unit", 10), giver=OrganizationId(UUID(int=99)))

    assert request.reservations[FIRST].state is ReservationState.IN_DELIVERY
    assert covered(request) == (10, 4, 6)


def test_a_delivery_can_fulfil_and_arrive_after_the_end() -> None:
    """The delivery that brings the rest fulfils; one that comes after the end counts, and the end stays the end."""
    fulfilled, closed = a_request(), a_request()

    bring(fulfilled, ("beverage", "unit", 10))
    closed.close()
    bring(closed, ("beverage", "unit", 10))

    assert (fulfilled.status, closed.status) == (Status.FULFILLED, Status.CLOSED)
    assert covered(closed) == (10, 0, 10)


def a_request_in(status: Status) -> ResourceRequest:
    """A request brought to a status by commands, with room for one more promise while it is open."""
    request = a_started(9 if status is Status.OPEN else 10)
    ends: dict[Status, Callable[[], None]] = {
        Status.FULFILLED: lambda: request.receive(FIRST, received_by=BIA, now=NOW),
        Status.CLOSED: request.close,
        Status.CANCELLED: lambda: request.cancel(reason="test"),
        Status.EXPIRED: lambda: request.expire(now=NEXT_WEEK),
    }
    if status in ends:
        ends[status]()
    return request


COMMANDS: dict[str, Callable[[ResourceRequest], None]] = {
    "change": lambda request: request.change(now=NOW, title="new"),
    "reserve": lambda request: reserve(request, {WATER: 1}, SECOND),
    "close": lambda request: request.close(),
    "cancel": lambda request: request.cancel(reason="test"),
}
RESERVATION_COMMANDS: dict[str, Callable[[ResourceRequest], None]] = {
    "start": lambda request: request.start(FIRST),
    "receive": lambda request: request.receive(FIRST, received_by=BIA, now=NOW),
    "refuse": lambda request: request.refuse(FIRST, refused_by=BIA, reason="test"),
    "cancel": lambda request: request.cancel_reservation(FIRST, reason="test"),
}


def test_every_command_of_the_tables_is_tried() -> None:
    """None is left out below."""
    assert COMMANDS.keys() == {command for commands in ALLOWED.values() for command in commands}
    assert RESERVATION_COMMANDS.keys() == {each for commands in RESERVATION_ALLOWED.values() for each in commands}


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_table_decides_what_can_happen_to_a_request(status: Status, command: str) -> None:
    """A command the table allows works in that status; any other is refused, naming the status and what is allowed."""
    request = a_request_in(status)
    assert request.status is status

    if command in ALLOWED[status]:
        COMMANDS[command](request)
        return
    with pytest.raises(InvalidTransition) as refused:
        COMMANDS[command](request)

    assert refused.value.details == {"current_status": status, "allowed": ALLOWED[status]}


@pytest.mark.parametrize("state", list(ReservationState))
@pytest.mark.parametrize("command", sorted(RESERVATION_COMMANDS))
def test_the_table_decides_what_can_happen_to_a_reservation(state: ReservationState, command: str) -> None:
    """A command the table allows works in that state; any other is refused, naming the state."""
    request = a_reserved() if state in (ReservationState.RESERVED, ReservationState.EXPIRED) else a_started()
    brought: dict[ReservationState, Callable[[ResourceRequest], None]] = {
        ReservationState.RECEIVED: RESERVATION_COMMANDS["receive"],
        ReservationState.REFUSED: RESERVATION_COMMANDS["refuse"],
        ReservationState.CANCELLED: RESERVATION_COMMANDS["cancel"],
        ReservationState.EXPIRED: lambda request: request.expire_reservation(FIRST, now=NOW + timedelta(hours=48)),
    }
    if state in brought:
        brought[state](request)
    assert request.reservations[FIRST].state is state

    if command in RESERVATION_ALLOWED[state]:
        RESERVATION_COMMANDS[command](request)
        return
    with pytest.raises(InvalidTransition) as refused:
        RESERVATION_COMMANDS[command](request)

    assert refused.value.details == {"current_status": state, "allowed": RESERVATION_ALLOWED[state]}


def test_every_event_survives_json() -> None:
    """An event written as JSON and read back is equal, and folding what was read gives the same request."""
    request = a_request(a_need(), a_need(SOAP, category=None, gtin="7891000100103"))
    reserve(request, {WATER: 4, SOAP: 1})
    request.start(FIRST, delivery_id=VAN)
    request.receive(FIRST, received_by=BIA, now=NOW, quantities={WATER: 3})
    reserve(request, {WATER: 7}, SECOND)
    request.change(now=NOW, urgency=Urgency.EMERGENCY)
    bring(request, ("beverage", "unit", 1), ("dry", "g", 5))
    request.cancel(reason="flood")

    read: list[Any] = [
        msgspec.json.decode(msgspec.json.encode(e), type=EVENTS[type(e).__name__]) for e in request.pending
    ]

    assert read == request.pending
    assert ResourceRequest.fold(REQUEST, read) == request
