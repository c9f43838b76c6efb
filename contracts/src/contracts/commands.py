"""What a service may ask of another over its control queue: facts once more, to one queue alone."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

RESEND_VERSIONS_MAX = 1_000  # one asking; whoever misses more asks again
REPLAY_HEADER = "x-replay"  # on each fact of a replay, with its id: only projections may take it in
REPLAY_MARK_HEADER = "x-replay-mark"  # the message is no fact but a `ReplayMark`
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
    """Every fact of these aggregates (`batch`, `delivery`), each one's in order, to `queue`, with marks between and at the end."""

    kind: Literal["replay"] = "replay"
    queue: Queue
    replay_id: UUID
    aggregates: list[str] = Field(min_length=1, max_length=50)


class CancelReplay(_Command):
    """Nobody waits for this replay any more."""

    kind: Literal["cancel-replay"] = "cancel-replay"
    replay_id: UUID


class ReplayMark(_Command):
    """How far a producer's replay is: everything before this message in its queue, and with `ended` everything there was.

    `total` is about how many facts there are; with an `error` the replay has ended without the rest.
    """

    replay_id: UUID
    producer: str
    sent: int = Field(ge=0)
    total: int = Field(ge=0)
    ended: bool = False
    error: str | None = None


Command = Resend | Replay | CancelReplay
_COMMANDS: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="kind")])


class NoCommand(ValueError):
    """The bytes are no command of ours; trying again cannot help."""


def command_of(body: bytes) -> Command:
    """The command in a message; raises `NoCommand`."""
    try:
        return _COMMANDS.validate_json(body)
    except ValidationError as error:
        raise NoCommand(str(error)) from error
