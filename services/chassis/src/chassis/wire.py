"""What request and response bodies are made of: closed models and values that accept nothing by accident."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID

from contracts.values import QUANTITY_MAX
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)


class Body(BaseModel):
    """A request body: unknown fields are refused, text is trimmed of nothing and coerced from nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class View(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


def _moment(value: Any) -> Any:
    if isinstance(value, datetime):  # from our own tables and domains, in UTC already
        return value
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ValueError("an RFC 3339 date-time with an offset is needed")
    moment = datetime.fromisoformat(value.upper().replace(" ", "T"))
    if not 1900 <= moment.year <= 9998:
        raise ValueError("the year is out of range")
    return moment.astimezone(UTC)


UtcMoment = Annotated[
    AwareDatetime,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": r"^(19|2\d)\d{2}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$",
        }
    ),
]


def _integer(value: Any) -> Any:
    """JSON knows no integers, only numbers without a fraction: 4.0 is 4; a text or a boolean is neither."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("an integer is needed")
    return value


Integer = Annotated[int, BeforeValidator(_integer)]
Count = Annotated[Integer, Field(ge=1, le=QUANTITY_MAX)]
CountOrZero = Annotated[Integer, Field(ge=0, le=QUANTITY_MAX)]
TemperatureDc = Annotated[Integer, Field(ge=-1000, le=2000, description="tenths of a degree Celsius")]
Latitude = Annotated[float, Field(strict=True, ge=-90, le=90)]
Longitude = Annotated[float, Field(strict=True, ge=-180, le=180)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"\S")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2_000, pattern=r"\S")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"\S")]


def _near(value: Any) -> Any:
    match = (
        re.fullmatch(r"(-?\d{1,3}(?:\.\d{1,12})?),(-?\d{1,3}(?:\.\d{1,12})?)", value)
        if isinstance(value, str)
        else None
    )
    if match is None or abs(float(match[1])) > 90 or abs(float(match[2])) > 180:
        raise ValueError("latitude,longitude in degrees is needed")
    return value


_POINT = r"^-?(90(\.0+)?|[1-8]?\d(\.\d{1,12})?),-?(180(\.0+)?|(1[0-7]\d|\d{1,2})(\.\d{1,12})?)$"
Near = Annotated[str, BeforeValidator(_near), WithJsonSchema({"type": "string", "pattern": _POINT})]
RadiusM = Annotated[int, Field(ge=1, le=500_000, description="metres")]


def point_of(near: str) -> tuple[float, float]:
    """`lat,lon` as numbers."""
    lat, lon = near.split(",")
    return float(lat), float(lon)


class WindowIn(Body):
    """A half-open span of time `{from, to}`."""

    from_: UtcMoment = Field(alias="from")
    to: UtcMoment


class WindowOut(View):
    """A half-open span of time `{from, to}` in UTC."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    from_: UtcMoment = Field(alias="from")
    to: UtcMoment


class Event(View):
    """One line of a history; `client_time` is when the caller's own clock says a queued command was given."""

    event_id: UUID
    version: int
    type: str
    occurred_at: UtcMoment
    actor_id: str | None
    client_time: UtcMoment | None = None
    data: dict[str, Any]

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """A stored event as callers see it."""
        shown = {name: row[name] for name in ("event_id", "version", "type", "occurred_at", "data")}
        return cls.model_validate(shown | {name: row["meta"].get(name) for name in ("actor_id", "client_time")})
