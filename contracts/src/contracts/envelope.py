"""The one envelope: CloudEvents 1.0, structured JSON, on the bus, in event streams and in webhooks alike."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

CONTENT_TYPE = "application/cloudevents+json"
SCHEMA_BASE = "https://vouajudar.org/schemas/"
_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PARTIES = f"^({_UUID}( {_UUID})*)?$"  # else `party_ids` would fail after decoding


def rfc3339(moment: datetime) -> str:
    """UTC with microseconds and `Z`, one spelling everywhere so that stored bytes compare."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Moment = Annotated[AwareDatetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]


def fact_of(class_name: str, aggregate: str) -> str:
    """`BatchHoldRejected` of `batch` is `hold_rejected`; a name that does not start with its aggregate stays whole."""
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in class_name).lstrip("_")
    return snake.removeprefix(f"{aggregate}_")


class Event(BaseModel):
    """The `data` of one event type: frozen, past tense; readers ignore fields that later versions add.

    A base per aggregate names `producer` and `aggregate`; each concrete event derives its type from its class name.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    producer: ClassVar[str] = ""
    aggregate: ClassVar[str] = ""
    major: ClassVar[int] = 1
    abstract: ClassVar[bool] = True

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.abstract = abstract

    @classmethod
    def type_name(cls) -> str:
        """`vouajudar.<producer>.<aggregate>.<fact>.v<major>`."""
        return f"vouajudar.{cls.producer}.{cls.aggregate}.{fact_of(cls.__name__, cls.aggregate)}.v{cls.major}"

    @classmethod
    def routing_key(cls) -> str:
        """`<aggregate>.<fact>.v<major>` on the producer's topic exchange."""
        return cls.type_name().removeprefix(f"vouajudar.{cls.producer}.")


class Envelope(BaseModel):
    """One event as it travels; `data` is still untyped here, `registry.decode` types it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: UUID
    source: str = Field(min_length=1)
    type: str = Field(min_length=1)
    subject: UUID
    time: Moment
    dataschema: str
    datacontenttype: Literal["application/json"] = "application/json"
    aggregateversion: int = Field(ge=1)
    organizationid: UUID | None = None
    parties: str = Field(default="", pattern=_PARTIES)
    correlationid: str
    causationid: str | None = None
    actorid: str | None = None
    traceparent: str | None = None
    data: dict[str, Any]

    @property
    def party_ids(self) -> list[UUID]:
        """Every organization the event concerns, the owner included."""
        return [UUID(part) for part in self.parties.split()]


def source_of(producer: str) -> str:
    """The CloudEvents `source` of a service."""
    return f"/services/{producer}"


def producer_of(source: str) -> str:
    """The service that a CloudEvents `source` names."""
    return source.removeprefix("/services/")


def schema_of(event_type: str) -> str:
    """The address of the JSON Schema of a type's `data`."""
    return f"{SCHEMA_BASE}{event_type}.json"
