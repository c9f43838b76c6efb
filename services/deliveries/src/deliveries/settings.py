"""What only deliveries is told by its environment."""

from __future__ import annotations

from chassis.settings import ServiceSettings
from pydantic import Field, field_validator


class Settings(ServiceSettings):
    """The service's settings."""

    min_handling_s: int = Field(default=1800, ge=0, description="safe time goods need left to be claimed, in seconds")
    claims_per_day_max: int = Field(
        default=10, ge=1, description="deliveries a volunteer may have claimed within 24 hours, released ones apart"
    )
    holds_answered_s: int = Field(
        default=900, ge=1, description="how long a plan waits for batches to answer before it is cancelled, in seconds"
    )
    offer_rings_m: str = Field(
        default="5000,10000,20000",
        pattern=r"^\d{1,6}(, ?\d{1,6}){0,9}$",
        description="radius of each ring of volunteers around the pickup, in metres, comma-separated, growing",
    )
    offer_ring_s: int = Field(default=600, ge=1, description="pause after a ring was asked, in seconds")
    offers_per_ring_max: int = Field(default=20, ge=1, le=200, description="volunteers asked in one ring")
    confirm_asked_s: int = Field(
        default=3600,
        ge=0,
        description="how long before its last moment an early claim is asked to be confirmed, in seconds",
    )
    pickup_reminded_s: int = Field(
        default=1800, ge=0, description="how long before the pickup window its volunteer is reminded, in seconds"
    )
    pickup_grace_s: int = Field(
        default=1800, ge=0, description="how long after the pickup window's end a claim is kept, in seconds"
    )
    transit_s: int = Field(
        default=7200, ge=1, description="how long goods may be on the road when no drop-off window says it, in seconds"
    )
    dropoff_again_s: int = Field(
        default=3600, ge=1, description="pause between reminders of a late drop-off, in seconds"
    )
    reroute_decided_s: int = Field(
        default=1800, ge=1, description="how long a volunteer may decide where refused goods go, in seconds"
    )
    reroute_radius_m: int = Field(
        default=20_000, ge=1, le=200_000, description="how far from the refusal other places are looked for, in metres"
    )

    @field_validator("offer_rings_m")
    @classmethod
    def _grow(cls, value: str) -> str:
        radii_m = _radii_m(value)
        if sorted(set(radii_m)) != list(radii_m) or radii_m[0] < 1:
            raise ValueError("each ring is wider than the one before")
        return value

    @property
    def offer_rings(self) -> tuple[int, ...]:
        """The radius of each ring, in metres."""
        return _radii_m(self.offer_rings_m)


def _radii_m(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
