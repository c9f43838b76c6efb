"""What only resources is told by its environment."""

from __future__ import annotations

from chassis.settings import ServiceSettings
from pydantic import Field


class Settings(ServiceSettings):
    """The service's settings."""

    match_answer_s: int = Field(
        default=7200, ge=1, description="time both sides have to answer a proposed match, in seconds"
    )
