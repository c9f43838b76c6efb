"""What a service is told by its environment (prefix `VAJ_`); secrets have no default and never print."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class DatabaseSettings(BaseSettings):
    """Where the service's own database is."""

    database_url: SecretStr = Field(description="PostgreSQL address of the service's own database")
    database_pool_max: int = Field(default=12, ge=2, le=100, description="connections per process")


class BrokerSettings(BaseSettings):
    """Where the broker is."""

    broker_url: SecretStr = Field(description="AMQP address, user and vhost included")


class ApiSettings(BaseSettings):
    """Where the service listens and how much it takes in."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    api_port: int = Field(ge=1, le=65535, description="port of the public routes, behind the gateway")
    ops_port: int = Field(ge=1, le=65535, description="port of /livez, /readyz, /metrics and internal routes")
    body_bytes_max: int = Field(default=1_048_576, ge=1024, description="largest request body, loads excepted")
    rate_per_minute: int = Field(default=600, ge=1, description="requests per user or key and minute")


class AuthSettings(BaseSettings):
    """What callers' credentials are checked against."""

    redis_url: SecretStr = Field(description="Redis address for quotas")
    secret_key: SecretStr = Field(
        description="32 random bytes, URL-safe base64: signs cursors, encrypts stored secrets"
    )
    token_issuer: str = Field(default="https://vouajudar.org", description="`iss` of the access tokens")


class TelemetrySettings(BaseSettings):
    """What the service tells of itself."""

    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="least level logged")
    trace_sample_ratio: float = Field(default=0.05, ge=0, le=1, description="share of requests that are traced")
    otlp_endpoint: str | None = Field(default=None, description="OTLP/HTTP collector; without it spans stay local")


class ServiceSettings(DatabaseSettings, BrokerSettings, ApiSettings, AuthSettings, TelemetrySettings):
    """All that every service needs; a service derives its own from it."""

    model_config = SettingsConfigDict(env_prefix="VAJ_", extra="ignore", frozen=True)
