"""What only deliveries is told by its environment."""

from __future__ import annotations

from chassis.settings import ServiceSettings
from pydantic import Field


class Settings(ServiceSettings):
    """The service's settings."""

    min_handling_s: int = Field(default=1800, ge=0, description="safe time goods need left to be claimed, in seconds")
    claims_per_day_max: int = Field(
        default=10, ge=1, description="deliveries a volunteer may have claimed within 24 hours, released ones apart"
    )
