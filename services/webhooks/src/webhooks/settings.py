"""What only webhooks is told by its environment."""

from __future__ import annotations

from datetime import timedelta

from chassis.settings import ServiceSettings
from pydantic import Field, field_validator

from webhooks.domain import RETRY_SCHEDULE
from webhooks.url_policy import Network, parse_networks


class Settings(ServiceSettings):
    """The service's settings."""

    webhooks_allowed_networks: str = Field(
        default="",
        description="networks (comma-separated) that endpoints may be in besides public ones, also over http",
    )
    webhooks_retry_schedule_s: str = Field(
        default=",".join(f"{step.total_seconds():g}" for step in RETRY_SCHEDULE),
        pattern=r"^(\d{1,7}(\.\d{1,3})?(, ?\d{1,7}(\.\d{1,3})?)*)?$",
        description="waits after the first, second, … failed attempt, in seconds, comma-separated; empty: never again",
    )

    @field_validator("webhooks_allowed_networks")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    @field_validator("webhooks_retry_schedule_s")
    @classmethod
    def _are_waits(cls, value: str) -> str:
        if any(step <= timedelta(0) for step in _steps(value)):
            raise ValueError("every wait is longer than nothing")
        return value

    @property
    def allowed_networks(self) -> tuple[Network, ...]:
        """The networks that are opened besides public addresses."""
        return parse_networks(self.webhooks_allowed_networks)

    @property
    def retry_schedule(self) -> tuple[timedelta, ...]:
        """The wait after each failed attempt."""
        return _steps(self.webhooks_retry_schedule_s)


def _steps(text: str) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=float(part)) for part in text.split(",") if part.strip())
