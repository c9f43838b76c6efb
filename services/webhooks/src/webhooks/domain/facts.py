"""What happens to an endpoint, as its stream remembers it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from chassis.kernel import Upcasters

from webhooks.domain.terms import EndpointSettings, SigningSecret


@dataclass(frozen=True, slots=True)
class EndpointCreated:
    """A partner registered an endpoint."""

    stored_revision: ClassVar[int] = 2

    organization_id: UUID
    settings: EndpointSettings
    secrets: tuple[SigningSecret, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class EndpointChanged:
    """The settings are these from now on."""

    stored_revision: ClassVar[int] = 2

    settings: EndpointSettings


@dataclass(frozen=True, slots=True)
class EndpointSecretRotated:
    """These secrets sign from now on, newest first."""

    secrets: tuple[SigningSecret, ...]


@dataclass(frozen=True, slots=True)
class EndpointPaused:
    """The partner asked to hold events back."""


@dataclass(frozen=True, slots=True)
class EndpointEnabled:
    """Held and new events go out (again)."""


@dataclass(frozen=True, slots=True)
class EndpointFailing:
    """Deliveries fail for so long that the partner ought to know: so many percent of what switches it off."""

    stored_revision: ClassVar[int] = 2

    since: datetime
    percent: int


@dataclass(frozen=True, slots=True)
class EndpointRecovered:
    """A failing endpoint accepted a delivery."""


@dataclass(frozen=True, slots=True)
class EndpointDisabled:
    """Nothing is sent any more until somebody enables it; `reason` is a slug such as `gone`."""

    reason: str


@dataclass(frozen=True, slots=True)
class EndpointDeleted:
    """The partner removed it."""


EVENTS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        EndpointCreated,
        EndpointChanged,
        EndpointSecretRotated,
        EndpointPaused,
        EndpointEnabled,
        EndpointFailing,
        EndpointRecovered,
        EndpointDisabled,
        EndpointDeleted,
    )
}


def _with_later_settings(data: dict[str, Any]) -> dict[str, Any]:
    """Before there was a choice all had the service's schedule, heard of every party, and HMAC alone signed."""
    return {**data, "settings": {**data["settings"], "retry_schedule_s": None, "parties": [], "ed25519": False}}


UPCASTERS: Upcasters = {
    ("EndpointCreated", 1): _with_later_settings,
    ("EndpointChanged", 1): _with_later_settings,
    ("EndpointFailing", 1): lambda data: {**data, "percent": 50},
}
