"""What only notifications is told by its environment."""

from __future__ import annotations

from chassis.settings import ServiceSettings
from pydantic import AnyHttpUrl, Field, SecretStr


class Settings(ServiceSettings):
    """The service's settings."""

    smtp_url: SecretStr = Field(description="SMTP server: smtp://[user:password@]host[:port] or smtps://…")
    mail_from: str = Field(default="VouAjudar <nao-responda@vouajudar.org>", description="sender of every e-mail")
    public_url: AnyHttpUrl = Field(
        default=AnyHttpUrl("http://localhost:8080"), description="address of the gateway, for links in e-mails"
    )
    identity_internal_url: AnyHttpUrl = Field(description="internal address of identity, asked for people's contacts")
    internal_token: SecretStr = Field(min_length=16, description="bearer token of routes between services")
    message_lifetime_h: int = Field(
        default=24, ge=1, le=168, description="an e-mail not sent by then expires, in hours"
    )
