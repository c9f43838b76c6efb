"""What only analytics is told by its environment: nothing yet."""

from __future__ import annotations

from chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """The service's settings."""
