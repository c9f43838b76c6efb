"""What only identity is told by its environment."""

from __future__ import annotations

from chassis.settings import DatabaseSettings, ServiceSettings
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict


class Settings(ServiceSettings):
    """The service's settings."""

    public_url: str = Field(default="https://vouajudar.org", description="where clients reach the gateway")
    internal_token: SecretStr = Field(min_length=16, description="bearer token of other services' internal calls")
    token_ttl_s: int = Field(default=600, ge=1, le=900, description="life of an access token, in seconds")
    refresh_ttl_s: int = Field(default=2_592_000, ge=60, description="life of an unused refresh token, in seconds")
    refresh_grace_s: int = Field(
        default=20, ge=0, le=60, description="time a replaced refresh token still works, in seconds"
    )
    login_per_minute: int = Field(default=10, ge=1, description="sign-in attempts per account and address and minute")


class AdminSettings(DatabaseSettings):
    """What `create-admin` needs: the database alone."""

    model_config = SettingsConfigDict(env_prefix="VAJ_", extra="ignore", frozen=True)
