"""Whatever resources has stored stays readable: the golden examples in `stored/` are kept for ever."""

from __future__ import annotations

from pathlib import Path

from chassis.app import Service
from chassis.testing import stored


def test_what_was_stored_is_read(service: Service) -> None:
    """Every class and revision has golden examples, all are read, and today's classes store what theirs show."""
    assert stored.unlisted(service) == []
    assert stored.faults(Path(__file__).parent / "stored", service.repositories) == []
