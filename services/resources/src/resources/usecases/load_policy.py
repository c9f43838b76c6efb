"""How loads are worked on and kept in this deployment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


class LoadSettings(Protocol):
    """What the environment says about loads."""

    @property
    def load_bytes_max(self) -> int: ...
    @property
    def load_chunk_rows(self) -> int: ...
    @property
    def load_workers(self) -> int: ...
    @property
    def load_confirm_h(self) -> int: ...
    @property
    def load_stalled_s(self) -> int: ...
    @property
    def load_payload_days(self) -> int: ...
    @property
    def load_chunk_days(self) -> int: ...


@dataclass(frozen=True)
class LoadPolicy:
    """How loads are worked on and kept."""

    bytes_max: int
    chunk_rows: int
    workers: int
    confirm: timedelta
    stalled: timedelta
    payloads: timedelta
    chunks: timedelta

    @classmethod
    def of(cls, settings: LoadSettings) -> LoadPolicy:
        """From the environment."""
        return cls(
            bytes_max=settings.load_bytes_max,
            chunk_rows=settings.load_chunk_rows,
            workers=settings.load_workers,
            confirm=timedelta(hours=settings.load_confirm_h),
            stalled=timedelta(seconds=settings.load_stalled_s),
            payloads=timedelta(days=settings.load_payload_days),
            chunks=timedelta(days=settings.load_chunk_days),
        )
