"""What only batches is told by its environment."""

from __future__ import annotations

from chassis.settings import ServiceSettings
from pydantic import Field


class Settings(ServiceSettings):
    """The service's settings."""

    min_handling_s: int = Field(default=1800, ge=0, description="safe time goods need left to be offered, in seconds")
