"""The service under test."""

from __future__ import annotations

import pytest

pytest_plugins = ["chassis.testing.plugin"]


@pytest.fixture(scope="session")
def service_name() -> str:
    """Which service these tests are of."""
    return "resources"
