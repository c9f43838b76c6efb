"""Where a partner wants to hear from us; changed by recorded facts only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from chassis.kernel import Aggregate, InvalidTransition

from webhooks.domain.facts import (
    EndpointChanged,
    EndpointCreated,
    EndpointDeleted,
    EndpointDisabled,
    EndpointEnabled,
    EndpointFailing,
    EndpointPaused,
    EndpointRecovered,
    EndpointSecretRotated,
)
from webhooks.domain.terms import (
    OVERLAP_DEFAULT,
    EndpointId,
    EndpointSettings,
    EndpointStatus,
    OrganizationId,
    SigningSecret,
    rotated,
)

_UNKNOWN = UUID(int=0)  # until the first event is folded in
_NO_SETTINGS = EndpointSettings(url="")
_NEVER = datetime.min.replace(tzinfo=UTC)
_DELIVERING = frozenset({EndpointStatus.ACTIVE, EndpointStatus.FAILING})


@dataclass
class Endpoint(Aggregate):
    """Where a partner wants to hear from us, and whether we may send there now."""

    organization_id: UUID = _UNKNOWN
    settings: EndpointSettings = _NO_SETTINGS
    secrets: tuple[SigningSecret, ...] = ()
    status: EndpointStatus = EndpointStatus.ACTIVE
    failing_since: datetime | None = None
    failing_percent: int = 0
    disabled_reason: str | None = None
    created_at: datetime = _NEVER

    @classmethod
    def create(
        cls,
        endpoint_id: EndpointId,
        *,
        organization_id: OrganizationId,
        settings: EndpointSettings,
        sealed_secret: str,
        now: datetime,
    ) -> Endpoint:
        """A new active endpoint with one secret."""
        endpoint = cls(id=endpoint_id)
        endpoint.record(EndpointCreated(organization_id, settings, (SigningSecret(sealed_secret, now),), now))
        return endpoint

    def can_deliver(self) -> bool:
        """Whether messages go out now."""
        return self.status in _DELIVERING

    def holds_messages(self) -> bool:
        """Whether messages are kept until it is enabled again."""
        return self.status in {EndpointStatus.PAUSED, EndpointStatus.DISABLED}

    def wants(self, event_type: str, concerned: Collection[UUID] = ()) -> bool:
        """Whether an event of this type, which concerns these organizations, becomes a message here, now or held."""
        return self.status is not EndpointStatus.DELETED and self.settings.wants(event_type, concerned)

    def valid_secrets(self, now: datetime) -> tuple[SigningSecret, ...]:
        """The secrets that sign a request made now, newest first."""
        return tuple(secret for secret in self.secrets if secret.is_valid(now))

    def change(self, settings: EndpointSettings) -> None:
        """Use other settings; the same settings change nothing."""
        self._require_alive()
        if settings != self.settings:
            self.record(EndpointChanged(settings))

    def rotate_secret(self, sealed: str, *, now: datetime, overlap: timedelta = OVERLAP_DEFAULT) -> None:
        """Sign with a new secret, and with the old one as well until the overlap is over."""
        self._require_alive()
        self.record(EndpointSecretRotated(rotated(self.secrets, sealed=sealed, now=now, overlap=overlap)))

    def require_delivering(self) -> None:
        """Refuse what makes no sense while nothing is sent."""
        if not self.can_deliver():
            raise InvalidTransition(status=self.status, allowed=self._allowed())

    def pause(self) -> None:
        """Hold messages back until enabled."""
        self.require_delivering()
        self.record(EndpointPaused())

    def enable(self) -> None:
        """Deliver again, what was held included; nothing changes while it is active."""
        self._require_alive()
        if self.status is not EndpointStatus.ACTIVE:
            self.record(EndpointEnabled())

    def mark_failing(self, since: datetime, *, percent: int) -> None:
        """Note that deliveries keep failing, once per notice; the first one says since when."""
        if self.can_deliver() and percent > self.failing_percent:
            self.record(EndpointFailing(self.failing_since or since, percent))

    def mark_recovered(self) -> None:
        """Note that a delivery succeeded; says nothing unless it was failing."""
        if self.status is EndpointStatus.FAILING:
            self.record(EndpointRecovered())

    def disable(self, reason: str) -> None:
        """Stop sending, by ourselves; a paused endpoint stays as its partner left it."""
        if self.status in _DELIVERING:
            self.record(EndpointDisabled(reason))

    def delete(self) -> None:
        """Remove it for good."""
        self._require_alive()
        self.record(EndpointDeleted())

    def _require_alive(self) -> None:
        if self.status is EndpointStatus.DELETED:
            raise InvalidTransition(status=self.status, allowed=[])

    def _allowed(self) -> list[str]:
        if self.status is EndpointStatus.DELETED:
            return []
        return ["pause", "delete"] if self.can_deliver() else ["enable", "delete"]

    def _on_EndpointCreated(self, event: EndpointCreated) -> None:  # noqa: N802 - named after the event
        self.organization_id, self.settings, self.secrets = event.organization_id, event.settings, event.secrets
        self.created_at = event.created_at

    def _on_EndpointChanged(self, event: EndpointChanged) -> None:  # noqa: N802 - named after the event
        self.settings = event.settings

    def _on_EndpointSecretRotated(self, event: EndpointSecretRotated) -> None:  # noqa: N802 - named after the event
        self.secrets = event.secrets

    def _on_EndpointPaused(self, _: EndpointPaused) -> None:  # noqa: N802 - named after the event
        self.status = EndpointStatus.PAUSED

    def _on_EndpointEnabled(self, _: EndpointEnabled) -> None:  # noqa: N802 - named after the event
        self._become_healthy()

    def _on_EndpointFailing(self, event: EndpointFailing) -> None:  # noqa: N802 - named after the event
        self.status, self.failing_since, self.failing_percent = EndpointStatus.FAILING, event.since, event.percent

    def _on_EndpointRecovered(self, _: EndpointRecovered) -> None:  # noqa: N802 - named after the event
        self._become_healthy()

    def _on_EndpointDisabled(self, event: EndpointDisabled) -> None:  # noqa: N802 - named after the event
        self.status, self.disabled_reason = EndpointStatus.DISABLED, event.reason

    def _on_EndpointDeleted(self, _: EndpointDeleted) -> None:  # noqa: N802 - named after the event
        self.status, self.secrets = EndpointStatus.DELETED, ()

    def _become_healthy(self) -> None:
        self.status, self.disabled_reason = EndpointStatus.ACTIVE, None
        self.failing_since, self.failing_percent = None, 0
