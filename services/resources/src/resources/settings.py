"""What only resources is told by its environment: nothing yet beyond what every service is."""

from __future__ import annotations

from chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """The service's settings."""
