"""Places: where goods are fetched and brought."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from chassis.database import Row
from chassis.pagination import Page, PageAsked
from chassis.routing import IfMatch, Now, Person, Tx, api_router, set_etag
from chassis.wire import Body, Integer, Latitude, Longitude, Name, Near, RadiusM, Text, UtcMoment, View, point_of
from contracts.values import STOPPED_MAX, Category, IbgeCity, PlaceRole, Stopped
from fastapi import Response
from pydantic import ConfigDict, Field, StringConstraints

from identity import domain, queries
from identity.api.inputs import EachOnce, Reader, Zone, position
from identity.usecases import places

router = api_router("places")

Address = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"\S")]
Cep = Annotated[str, StringConstraints(pattern="^[0-9]{5}-?[0-9]{3}$")]
Roles = Annotated[list[PlaceRole], Field(min_length=1, max_length=2), *EachOnce]
Accepts = Annotated[list[Category], Field(max_length=16), *EachOnce]
StopList = Annotated[list[Stopped], Field(max_length=STOPPED_MAX), *EachOnce]
People = Annotated[Integer, Field(ge=0, le=1_000_000)]


class PlaceIn(Body):
    """A place to add; an empty `accepts` takes every category. `stop_list` names categories and GTINs it never takes."""

    organization_id: UUID
    name: Name
    roles: Roles
    address: Address
    cep: Cep | None = None
    ibge_city: IbgeCity
    lat: Latitude
    lon: Longitude
    tz: Zone = "America/Sao_Paulo"
    accepts: Accepts = []
    stop_list: StopList = []
    opening_hours: Text | None = None
    people_served: People | None = None


def _without_null_defaults(schema: dict[str, Any]) -> None:
    for member in schema["properties"].values():
        if "anyOf" not in member:
            member.pop("default", None)


def _absent() -> Any:
    """A member that may be left out, though not null."""
    return Field(default=None)


class PlaceChangeIn(Body):
    """What shall be different; what is left out stays."""

    model_config = ConfigDict(json_schema_extra=_without_null_defaults)

    name: Name = _absent()
    roles: Roles = _absent()
    address: Address = _absent()
    cep: Cep | None = None
    ibge_city: IbgeCity = _absent()
    lat: Latitude = _absent()
    lon: Longitude = _absent()
    tz: Zone = _absent()
    accepts: Accepts = _absent()
    stop_list: StopList = _absent()
    opening_hours: Text | None = None
    people_served: People | None = None


class PlaceOut(View):
    """A place."""

    id: UUID
    version: int
    organization_id: UUID
    name: str
    roles: list[PlaceRole]
    address: str
    cep: str | None
    ibge_city: str
    lat: float
    lon: float
    tz: str
    accepts: list[Category]
    stop_list: list[Stopped]
    opening_hours: str | None
    people_served: int | None
    added_at: UtcMoment


def _of_row(row: Row) -> PlaceOut:
    return PlaceOut.model_validate(dict(row))


def _of(place: domain.Place, response: Response) -> PlaceOut:
    set_etag(response, place.version)
    own = {name: getattr(place, name) for name in ("id", "version", "organization_id", "added_at")}
    return PlaceOut.model_validate({**own, **{name: getattr(place.details, name) for name in _DETAILS}})


_DETAILS = tuple(domain.PlaceDetails.__dataclass_fields__)


def _values(body: Body, names: set[str]) -> dict[str, Any]:
    """The named members as the domain takes them."""
    values = {name: getattr(body, name) for name in names}
    if "roles" in values:
        values["roles"] = tuple(domain.PlaceRole(role) for role in values["roles"])
    for name in values.keys() & {"accepts", "stop_list"}:
        values[name] = tuple(values[name])
    if values.get("cep"):
        values["cep"] = values["cep"].replace("-", "")
    return values


@router.post("/v1/places", status_code=201, operation_id="add_place")
async def add_place(body: PlaceIn, tx: Tx, principal: Person, now: Now, response: Response) -> PlaceOut:
    """Add a place to an organization that you manage."""
    details = domain.PlaceDetails(**_values(body, set(_DETAILS)))
    place = await places.add(tx, principal, organization_id=body.organization_id, details=details, now=now)
    response.headers["Location"] = f"/v1/places/{place.id}"
    return _of(place, response)


@router.get("/v1/places", operation_id="list_places")
async def list_places(
    tx: Tx,
    paging: PageAsked,
    principal: Reader,
    near: Near | None = None,
    radius_m: RadiusM = 10_000,
    role: PlaceRole | None = None,
    organization_id: UUID | None = None,
) -> Page[PlaceOut]:
    """Places of verified organizations and of your own, newest first."""
    wanted = queries.PlaceFilter(role, organization_id, point_of(near) if near else None, radius_m)
    rows = await queries.places(tx, principal, wanted, limit=paging.limit, before=position(paging.position))
    return paging.page([_of_row(row) for row in rows], [[row["id"]] for row in rows])


@router.get("/v1/places/{place_id}", operation_id="get_place")
async def get_place(place_id: UUID, tx: Tx, principal: Reader, response: Response) -> PlaceOut:
    """One place: of a verified organization, or of your own."""
    row = await queries.place(tx, principal, place_id)
    set_etag(response, row["version"])
    return _of_row(row)


@router.patch("/v1/places/{place_id}", operation_id="change_place")
async def change_place(
    place_id: UUID, body: PlaceChangeIn, tx: Tx, principal: Person, now: Now, response: Response, if_match: IfMatch
) -> PlaceOut:
    """Change some details of a place of an organization that you manage."""
    changes = _values(body, body.model_fields_set)
    place = await places.change(tx, principal, place_id, changes=changes, now=now, if_match=if_match)
    return _of(place, response)
