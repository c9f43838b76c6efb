"""What only resources is told by its environment."""

from __future__ import annotations

from chassis.settings import ServiceSettings
from pydantic import Field, SecretStr


class Settings(ServiceSettings):
    """The service's settings."""

    match_answer_s: int = Field(
        default=7200, ge=1, description="time both sides have to answer a proposed match, in seconds"
    )
    object_store_url: str = Field(
        default="file:///var/lib/vouajudar/objects",
        description="where payloads and chunks of catalogue loads lie: `file:///folder`, `s3://bucket/prefix`",
    )
    object_store_endpoint: str | None = Field(default=None, description="address of an S3 server that is not Amazon's")
    object_store_region: str | None = Field(default=None, description="region of the bucket")
    object_store_key_id: str | None = Field(default=None, description="access key of the bucket")
    object_store_secret: SecretStr | None = Field(default=None, description="secret of that access key")
    loads_per_minute: int = Field(default=100, ge=1, description="catalogue loads per company and minute")
    load_bytes_max: int = Field(default=1 << 30, ge=1024, description="largest catalogue load, as sent and unpacked")
    load_chunk_rows: int = Field(default=5000, ge=1, le=20_000, description="rows that are applied as one")
    load_workers: int = Field(default=2, ge=1, le=16, description="chunks that one process applies at once")
    load_confirm_h: int = Field(default=72, ge=1, description="hours that a load waits for its confirmation")
    load_stalled_s: int = Field(default=300, ge=1, description="seconds without progress until a load is looked after")
    load_payload_days: int = Field(default=30, ge=1, description="days that payloads and rejects are kept")
    load_chunk_days: int = Field(default=7, ge=1, description="days that chunks are kept")
