"""What a service may ask of another over its control queue: facts once more, to one queue alone."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

RESEND_VERSIONS_MAX = 1_000  # one asking; whoever misses more asks again
Queue = Annotated[str, Field(pattern=r"^q(\.[a-z0-9_]+){2,3}$", max_length=200)]


class _Command(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Resend(_Command):
    """The facts of one aggregate, from one version to another, both included, once more to `queue`."""

    kind: Literal["resend"] = "resend"
    queue: Queue
    subject: UUID
    from_version: int = Field(ge=1)
    to_version: int = Field(ge=1)


class Replay(_Command):
    """Every fact of these aggregates (`batch`, `delivery`), each aggregate's in order, to `queue`; then an end mark."""

    kind: Literal["replay"] = "replay"
    queue: Queue
    replay_id: UUID
    aggregates: list[str] = Field(min_length=1, max_length=50)


Command = Resend | Replay
_COMMANDS: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="kind")])


class NoCommand(ValueError):
    """The bytes are no command of ours; trying again cannot help."""


def command_of(body: bytes) -> Command:
    """The command in a message; raises `NoCommand`."""
    try:
        return _COMMANDS.validate_json(body)
    except ValidationError as error:
        raise NoCommand(str(error)) from error
