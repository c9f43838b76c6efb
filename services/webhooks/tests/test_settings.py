"""What the environment may say of webhooks."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network

import pytest
from pydantic import ValidationError
from webhooks.domain import RETRY_SCHEDULE
from webhooks.settings import Settings


@pytest.fixture
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "BROKER_URL", "REDIS_URL", "SECRET_KEY"):
        monkeypatch.setenv(f"VAJ_{name}", "x")
    for name in ("API_PORT", "OPS_PORT"):
        monkeypatch.setenv(f"VAJ_{name}", "1")
    monkeypatch.delenv("VAJ_WEBHOOKS_ALLOWED_NETWORKS", raising=False)
    monkeypatch.delenv("VAJ_WEBHOOKS_RETRY_SCHEDULE_S", raising=False)


@pytest.mark.usefixtures("_environment")
def test_by_default_only_public_addresses_and_three_days_of_retries() -> None:
    """Nothing private is open and the schedule is the domain's."""
    settings = Settings()

    assert settings.allowed_networks == ()
    assert settings.retry_schedule == RETRY_SCHEDULE


@pytest.mark.usefixtures("_environment")
def test_networks_and_waits_are_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commas separate; an empty schedule means one attempt only."""
    monkeypatch.setenv("VAJ_WEBHOOKS_ALLOWED_NETWORKS", "127.0.0.0/8, ::1/128")
    monkeypatch.setenv("VAJ_WEBHOOKS_RETRY_SCHEDULE_S", "")
    settings = Settings()

    assert settings.allowed_networks == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert settings.retry_schedule == ()
    monkeypatch.setenv("VAJ_WEBHOOKS_RETRY_SCHEDULE_S", "0.5,60")
    assert Settings().retry_schedule == (timedelta(seconds=0.5), timedelta(minutes=1))


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_NETWORKS", "10.0.0.1/8"),
        ("ALLOWED_NETWORKS", "localhost"),
        ("RETRY_SCHEDULE_S", "5,0"),
        ("RETRY_SCHEDULE_S", "5,-1"),
        ("RETRY_SCHEDULE_S", "5,soon"),
        ("RETRY_SCHEDULE_S", "nan"),
        ("RETRY_SCHEDULE_S", "inf"),
    ],
)
def test_what_cannot_be_meant_stops_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A wrong setting is an error at start, not a surprise at the first delivery."""
    monkeypatch.setenv(f"VAJ_WEBHOOKS_{name}", value)

    with pytest.raises(ValidationError):
        Settings()
