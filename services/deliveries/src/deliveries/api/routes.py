"""The routes: parse, one call, shape."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from chassis.access import Principal
from chassis.pagination import Page, PageAsked
from chassis.routing import IfMatch, Now, OfDirectory, OfRuntime, Person, Tx, api_router, require, set_etag
from chassis.telemetry import current_context
from chassis.wire import Event, Near, RadiusM, point_of
from fastapi import Depends, Query, Response

from deliveries import domain, queries, usecases
from deliveries.api import bodies
from deliveries.api.bodies import Flag, Stage, Status
from deliveries.api.views import CodeOut, DeliveryOut, shaped, shown_code
from deliveries.usecases import Asked, Custody, Policy

router = api_router("deliveries")

Reader = Annotated[Principal, require("deliveries:read")]
Writer = Annotated[Principal, require("deliveries:write")]


def _custody(runtime: OfRuntime) -> Custody:
    return Custody(runtime.database, runtime.secret)


def _asked(delivery_id: UUID, tx: Tx, principal: Principal, now: Now, if_match: IfMatch, runtime: OfRuntime) -> Asked:
    return Asked(
        tx=tx,
        principal=principal,
        delivery_id=delivery_id,
        now=now,
        if_match=if_match,
        policy=Policy.of(runtime.settings),
        client_time=current_context().client_time,
    )


def _by_person(delivery_id: UUID, tx: Tx, principal: Person, now: Now, if_match: IfMatch, runtime: OfRuntime) -> Asked:
    return _asked(delivery_id, tx, principal, now, if_match, runtime)


def _by_writer(delivery_id: UUID, tx: Tx, principal: Writer, now: Now, if_match: IfMatch, runtime: OfRuntime) -> Asked:
    return _asked(delivery_id, tx, principal, now, if_match, runtime)


OfCustody = Annotated[Custody, Depends(_custody)]
ByPerson = Annotated[Asked, Depends(_by_person)]
ByWriter = Annotated[Asked, Depends(_by_writer)]


async def _shown(asked: Asked, delivery: domain.Delivery, response: Response) -> DeliveryOut:
    set_etag(response, delivery.version)
    return shaped(await queries.after(asked.tx, asked.principal, delivery, now=asked.now))


# -- plan and look -----------------------------------------------------------------------------------------------------


@router.post("/v1/deliveries", status_code=201, operation_id="plan_delivery")
async def plan_delivery(
    body: bodies.DeliveryIn,
    tx: Tx,
    directory: OfDirectory,
    custody: OfCustody,
    principal: Writer,
    now: Now,
    response: Response,
) -> DeliveryOut:
    """Plan to bring goods that are ready to a place that takes them; it opens once batches has set all of them aside."""
    window = body.dropoff_window
    new: usecases.NewDelivery = {
        "receiving_place_id": body.receiving_place_id,
        "lines": [(line.batch_id, line.quantity) for line in body.lines],
        "dropoff_window": None if window is None else domain.Window(from_at=window.from_, to_at=window.to),
        "request_id": body.request_id,
    }
    delivery = await usecases.plan(tx, directory, custody, principal, asked=new, now=now)
    response.headers["Location"] = f"/v1/deliveries/{delivery.id}"
    set_etag(response, delivery.version)
    return shaped(await queries.after(tx, principal, delivery, now=now))


@router.get("/v1/deliveries", operation_id="list_deliveries")
async def list_deliveries(
    tx: Tx,
    paging: PageAsked,
    principal: Reader,
    now: Now,
    status: Annotated[list[Status], Query(max_length=11)] = [],  # noqa: B006 - FastAPI copies defaults
    near: Near | None = None,
    radius_m: RadiusM = 10_000,
    mine: Flag = False,
) -> Page[DeliveryOut]:
    """Deliveries you may see, newest first: everybody's open ones and those you have a part in; `mine` only the latter."""
    wanted = queries.Filter(status, point_of(near) if near else None, radius_m, mine)
    before = UUID(paging.position[0]) if paging.position else None
    sights = await queries.many(tx, principal, wanted, limit=paging.limit, before=before, now=now)
    return paging.page([shaped(sight) for sight in sights], [[sight.delivery.id] for sight in sights])


@router.get("/v1/deliveries/{delivery_id}", operation_id="get_delivery")
async def get_delivery(delivery_id: UUID, tx: Tx, principal: Reader, now: Now, response: Response) -> DeliveryOut:
    """One delivery."""
    sight = await queries.one(tx, principal, delivery_id, now=now)
    set_etag(response, sight.delivery.version)
    return shaped(sight)


@router.get("/v1/deliveries/{delivery_id}/history", operation_id="get_delivery_history")
async def get_delivery_history(delivery_id: UUID, tx: Tx, principal: Reader) -> list[Event]:
    """Everything that happened to a delivery, oldest first (parties only)."""
    return [Event.of(row) for row in await usecases.history(tx, principal, delivery_id)]


# -- claims ------------------------------------------------------------------------------------------------------------


@router.post("/v1/deliveries/{delivery_id}/claim", operation_id="claim_delivery")
async def claim_delivery(
    asked: ByPerson, custody: OfCustody, response: Response, body: bodies.ClaimIn | None = None
) -> DeliveryOut:
    """Take an open delivery on, or a part of it; exactly one volunteer gets it, and the rest stays open under an id of its own."""
    return await _shown(asked, await usecases.claim(asked, custody, taken=bodies.taken_of(body)), response)


@router.post("/v1/deliveries/{delivery_id}/waiting-list", operation_id="join_delivery_waiting_list")
async def join_delivery_waiting_list(asked: ByPerson, response: Response) -> DeliveryOut:
    """Be told when the delivery is open again; the first who waits is called first."""
    return await _shown(asked, await usecases.join_waiting_list(asked), response)


@router.delete("/v1/deliveries/{delivery_id}/waiting-list", operation_id="leave_delivery_waiting_list")
async def leave_delivery_waiting_list(asked: ByPerson, response: Response) -> DeliveryOut:
    """Wait for it no longer."""
    return await _shown(asked, await usecases.leave_waiting_list(asked), response)


@router.post("/v1/deliveries/{delivery_id}/confirm", operation_id="confirm_delivery_claim")
async def confirm_delivery_claim(asked: ByPerson, response: Response) -> DeliveryOut:
    """Keep a claim made more than two hours before the pickup."""
    return await _shown(asked, await usecases.confirm(asked), response)


@router.post("/v1/deliveries/{delivery_id}/release", operation_id="release_delivery")
async def release_delivery(asked: ByPerson, body: bodies.ReasonIn, response: Response) -> DeliveryOut:
    """Give your claim back."""
    return await _shown(asked, await usecases.release(asked, reason=body.reason), response)


@router.post("/v1/deliveries/{delivery_id}/no-show", operation_id="report_no_show")
async def report_no_show(asked: ByPerson, response: Response) -> DeliveryOut:
    """The volunteer did not come; the delivery is open again."""
    return await _shown(asked, await usecases.no_show(asked), response)


@router.post("/v1/deliveries/{delivery_id}/no-show/contest", operation_id="contest_no_show")
async def contest_no_show(asked: ByPerson, body: bodies.ReasonIn, response: Response) -> DeliveryOut:
    """You were reported and say otherwise."""
    return await _shown(asked, await usecases.contest_no_show(asked, reason=body.reason), response)


@router.post("/v1/deliveries/{delivery_id}/reassign", operation_id="reassign_delivery")
async def reassign_delivery(asked: ByPerson, body: bodies.ReassignIn, response: Response) -> DeliveryOut:
    """Give an open or claimed delivery to somebody (coordinators)."""
    delivery = await usecases.reassign(asked, volunteer_id=body.volunteer_id, reason=body.reason)
    return await _shown(asked, delivery, response)


# -- custody -----------------------------------------------------------------------------------------------------------


@router.get("/v1/deliveries/{delivery_id}/code", operation_id="get_custody_code")
async def get_custody_code(asked: ByPerson, custody: OfCustody, stage: Stage, response: Response) -> CodeOut:
    """The six digits to show to who gives you the goods, and what an app needs to show them without a network."""
    code = await usecases.show_code(asked, custody, stage=domain.Handshake(stage))
    response.headers["Cache-Control"] = "no-store"
    return shown_code(code)


@router.post("/v1/deliveries/{delivery_id}/pickup", operation_id="pick_up_delivery")
async def pick_up_delivery(
    asked: ByPerson, custody: OfCustody, body: bodies.PickupIn, response: Response
) -> DeliveryOut:
    """The provider hands the goods over to the volunteer who shows the code."""
    picked = bodies.picked_of(body.lines)
    delivery = await usecases.pickup(asked, custody, code=body.code, picked=picked, temperature_dc=body.temperature_dc)
    return await _shown(asked, delivery, response)


@router.post("/v1/deliveries/{delivery_id}/dropoff", operation_id="drop_off_delivery")
async def drop_off_delivery(
    asked: ByPerson, custody: OfCustody, body: bodies.DropoffIn, response: Response
) -> DeliveryOut:
    """The volunteer hands the goods over to the receiver who shows the code; what is rejected stays in hand."""
    delivery = await usecases.dropoff(
        asked,
        custody,
        code=body.code,
        dropped=bodies.dropped_of(body.lines),
        temperature_dc=body.temperature_dc,
        reason=body.reason,
    )
    return await _shown(asked, delivery, response)


@router.post("/v1/deliveries/{delivery_id}/return", operation_id="return_delivery")
async def return_delivery(
    asked: ByPerson, custody: OfCustody, body: bodies.ReturnIn, response: Response
) -> DeliveryOut:
    """The volunteer brings everything in hand back to the provider who shows the code."""
    delivery = await usecases.return_(asked, custody, code=body.code, usable=body.usable)
    return await _shown(asked, delivery, response)


@router.post("/v1/deliveries/{delivery_id}/override", operation_id="override_custody_code")
async def override_custody_code(asked: ByPerson, body: bodies.OverrideIn, response: Response) -> DeliveryOut:
    """Vouch for a handover without its code (coordinators)."""
    match body:
        case bodies.OverridePickupIn():
            delivery = await usecases.override_pickup(
                asked, picked=bodies.picked_of(body.lines), temperature_dc=body.temperature_dc, reason=body.reason
            )
        case bodies.OverrideDropoffIn():
            delivery = await usecases.override_dropoff(
                asked, dropped=bodies.dropped_of(body.lines), temperature_dc=body.temperature_dc, reason=body.reason
            )
        case bodies.OverrideReturnIn():
            delivery = await usecases.override_return(asked, usable=body.usable, reason=body.reason)
    return await _shown(asked, delivery, response)


# -- on the road -------------------------------------------------------------------------------------------------------


@router.post("/v1/deliveries/{delivery_id}/refuse", operation_id="refuse_delivery")
async def refuse_delivery(asked: ByPerson, body: bodies.ReasonIn, response: Response) -> DeliveryOut:
    """The receiver takes nothing of it (the receiver's people, or the volunteer)."""
    return await _shown(asked, await usecases.refuse(asked, reason=body.reason), response)


@router.post("/v1/deliveries/{delivery_id}/reroute", operation_id="reroute_delivery")
async def reroute_delivery(asked: ByPerson, body: bodies.RerouteIn, response: Response) -> DeliveryOut:
    """Carry what was refused to another place that takes it."""
    return await _shown(asked, await usecases.reroute(asked, place_id=body.place_id), response)


@router.post("/v1/deliveries/{delivery_id}/discard", operation_id="discard_delivery")
async def discard_delivery(asked: ByPerson, body: bodies.ReasonIn, response: Response) -> DeliveryOut:
    """Throw away what was refused."""
    return await _shown(asked, await usecases.discard(asked, reason=body.reason), response)


@router.post("/v1/deliveries/{delivery_id}/lost", operation_id="lose_delivery_goods")
async def lose_delivery_goods(asked: ByPerson, body: bodies.LostIn, response: Response) -> DeliveryOut:
    """Some of what you carry is gone."""
    delivery = await usecases.lose(asked, lost=bodies.lost_of(body.lines), reason=body.reason)
    return await _shown(asked, delivery, response)


# -- ends without goods ------------------------------------------------------------------------------------------------


@router.post("/v1/deliveries/{delivery_id}/cancel", operation_id="cancel_delivery")
async def cancel_delivery(asked: ByWriter, body: bodies.ReasonIn, response: Response) -> DeliveryOut:
    """Call it off before the pickup (who planned it, the provider, coordinators)."""
    return await _shown(asked, await usecases.cancel(asked, reason=body.reason), response)


@router.post("/v1/deliveries/{delivery_id}/fail", operation_id="fail_delivery")
async def fail_delivery(asked: ByPerson, body: bodies.ReasonIn, response: Response) -> DeliveryOut:
    """You came and there was nothing to collect."""
    return await _shown(asked, await usecases.fail(asked, reason=body.reason), response)
