"""What a catalogue's body is taken apart into, within which limits, and what makes it unreadable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec


class RawRow(msgspec.Struct, frozen=True, gc=False):
    """One product as one line of JSON; `number` is its place among the products of the body, from 1."""

    number: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of a body is ever taken, and how much of it is in memory: about three blocks and a row."""

    body_bytes_max: int = 1 << 30  # uncompressed; ten million products
    row_bytes_max: int = 1 << 16  # a product has some hundred bytes
    rows_max: int = 20_000_000  # as many as fit the body; a gigabyte of `1,` would be half a billion rejects
    block_bytes: int = 1 << 18  # 1,700 products: beyond, nothing gets faster
    ratio_max: int = 200  # catalogues compress 5 to 40 times, a bomb 1,000 times
    ratio_from_bytes: int = 1 << 24  # what a small body unpacks to does no harm

    def __post_init__(self) -> None:
        if self.block_bytes < 4:
            raise ValueError("a block holds at least a byte order mark")


class Fault(StrEnum):
    """Why a body cannot be read to its end; stable words that partners see."""

    BODY_TOO_LARGE = "body-too-large"
    COLUMN_MISSING = "column-missing"
    COLUMN_TWICE = "column-twice"
    COLUMN_UNKNOWN = "column-unknown"
    COMPRESSION_RATIO = "compression-ratio"
    CSV_MALFORMED = "csv-malformed"
    ENCODING = "encoding"
    GZIP_MALFORMED = "gzip-malformed"
    GZIP_TRUNCATED = "gzip-truncated"
    JSON_MALFORMED = "json-malformed"
    JSON_TRUNCATED = "json-truncated"
    MEDIA_TYPE = "media-type"
    NOT_PRODUCTS = "not-products"
    QUOTE_UNCLOSED = "quote-unclosed"
    ROW_TOO_LONG = "row-too-long"
    TOO_MANY_ROWS = "too-many-rows"
    TRAILING_DATA = "trailing-data"


class CatalogueUnreadable(Exception):
    """The body cannot be read any further than to `row`, the product being read; `offset` is in uncompressed bytes."""

    def __init__(self, *, reason: Fault, row: int, offset: int, detail: str) -> None:
        super().__init__(f"{reason} at row {row}, byte {offset}: {detail}")
        self.reason = reason
        self.row = row
        self.offset = offset
        self.detail = detail


class Broken(Exception):
    """What a layer that knows no rows says; the reader of rows makes it a `CatalogueUnreadable`."""

    def __init__(self, reason: Fault, offset: int, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.offset = offset
        self.detail = detail


class Splitter(ABC):
    """Takes blocks in, gives rows out: `feed` for every block in order, then `close` once.

    `rest` is what has been fed and not given, and begins at byte `offset` of the body.
    """

    def __init__(self, limits: Limits) -> None:
        self.row_bytes_max = limits.row_bytes_max
        self.rows_max = limits.rows_max
        self.offset = 0
        self.taken = 0

    @abstractmethod
    def feed(self, block: bytes) -> list[RawRow]:
        """The rows that end in this block."""

    @abstractmethod
    def close(self) -> list[RawRow]:
        """The rows that end with the body."""

    def numbered(self, rows: Sequence[bytes]) -> list[RawRow]:
        """The next rows, with their numbers."""
        if self.taken + len(rows) > self.rows_max:
            detail = f"a catalogue has at most {self.rows_max} products"
            raise self.unreadable(Fault.TOO_MANY_ROWS, detail, ahead=self.rows_max - self.taken)
        first = self.taken + 1
        self.taken += len(rows)
        return list(map(RawRow, range(first, self.taken + 1), rows))

    def unreadable(self, reason: Fault, detail: str, *, ahead: int = 0, offset: int | None = None) -> Exception:
        """What to raise about the row that is being read, or one `ahead` of it."""
        where = self.offset if offset is None else offset
        return CatalogueUnreadable(reason=reason, row=self.taken + 1 + ahead, offset=where, detail=detail)

    def too_long(self, *, ahead: int = 0, offset: int | None = None) -> Exception:
        """What to raise about a row that is longer than any product."""
        detail = f"a row has at most {self.row_bytes_max} bytes"
        return self.unreadable(Fault.ROW_TOO_LONG, detail, ahead=ahead, offset=offset)
