"""CSV as Brazilian systems write it: `;` or `,`, UTF-8 or Windows-1252, columns in Portuguese or English."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain

import msgspec

from resources.catalogue.csv_words import READERS, Cell, field_of
from resources.catalogue.rows import Fault, Limits, RawRow, Splitter

UTF8, WINDOWS = "utf-8", "cp1252"
CHARSETS = {
    None: UTF8, "utf-8": UTF8, "utf8": UTF8,
    "windows-1252": WINDOWS, "cp1252": WINDOWS, "iso-8859-1": WINDOWS, "latin1": WINDOWS, "us-ascii": WINDOWS,
}  # fmt: skip
COLUMNS_MAX = 100
PART_BYTES = 1 << 15  # of a block at a time: very short lines take forty times their bytes in memory
FOREIGN_STARTS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"\x1f\x8b")  # gzip that is not called so
REQUIRED = (("name",), ("stock",), ("price", "price_cents"), ("gtin", "sku"))  # one of each

_json = msgspec.json.Encoder().encode


class CsvRows(Splitter):
    """Records below a header line, each as the JSON object that its columns mean; empty cells and records are none.

    A record may go over several lines inside quotes. `sep=;`, which spreadsheets put first, is skipped.
    """

    def __init__(self, limits: Limits, *, charset: str | None) -> None:
        super().__init__(limits)
        if charset not in CHARSETS:
            raise self.unreadable(Fault.ENCODING, "UTF-8 or Windows-1252 is meant")
        self._characters = _Characters(charset)
        self._rest = ""
        self._delimiter = ","
        self._columns: list[str] = []

    def feed(self, block: bytes) -> list[RawRow]:
        """The records that end in this block."""
        rows: list[RawRow] = []
        for start in range(0, len(block), PART_BYTES):
            rows += self._read(block[start : start + PART_BYTES])
        return rows

    def close(self) -> list[RawRow]:
        """The last record, when no line end follows it."""
        rows = self._read(b"", final=True)
        if self._rest:
            raise self.unreadable(Fault.QUOTE_UNCLOSED, "a quote is opened in this record and never closed")
        return rows

    def _read(self, block: bytes, *, final: bool = False) -> list[RawRow]:
        """The rows that now have ended."""
        text, damaged = self._characters.of(block, final=final)
        if self.offset == 0:
            self.offset = self._characters.mark_bytes
        self._rest += text
        end = len(self._rest) if final else self._rest.rfind("\n") + 1
        used, records = self._records(list(io.StringIO(self._rest[:end], newline="\n")))
        rows = self.numbered(records)
        self.offset = self._byte(used)
        self._rest = self._rest[used:]
        if len(self._rest) > self.row_bytes_max:
            raise self.too_long()
        if damaged:
            where = self._byte(len(self._rest))
            raise self.unreadable(Fault.ENCODING, "neither UTF-8 nor Windows-1252", offset=where)
        return rows

    def _records(self, lines: list[str]) -> tuple[int, list[bytes]]:
        """How many characters of these lines are records, and those that are products."""
        head = 0
        while head < len(lines) and not self._columns:
            self._read_head(lines[head])
            head += 1
        used = sum(map(len, lines[:head]))
        rows: list[bytes] = []
        try:
            for length, record in _complete(lines[head:], self._delimiter):
                if length > self.row_bytes_max:
                    raise self.too_long(ahead=len(rows), offset=self._byte(used))
                used += length
                if row := self._row(record):
                    rows.append(row)
        except csv.Error as error:
            if "field limit" in str(error):
                raise self.too_long(ahead=len(rows), offset=self._byte(used)) from error
            detail = "a line ends with a carriage return alone"
            where = self._byte(used)
            raise self.unreadable(Fault.CSV_MALFORMED, detail, ahead=len(rows), offset=where) from error
        return used, rows

    def _row(self, record: list[str]) -> bytes:
        """A record as JSON; nothing when all cells are empty."""
        row: dict[str, Cell] = {}
        for column, cell in zip(self._columns, record, strict=False):
            if text := cell.strip():
                row[column] = READERS[column](text) if column in READERS else text
        for number, cell in enumerate(record[len(self._columns) :], len(self._columns) + 1):
            if text := cell.strip():
                row[f"column_{number}"] = text
        return _json(row) if row else b""

    def _read_head(self, line: str) -> None:
        """Learn the columns from the first line that is neither empty nor a spreadsheet's hint."""
        if line.isspace() or line.lower().startswith("sep="):
            return
        self._delimiter = ";" if ";" in line else ","
        names = next(csv.reader([line], delimiter=self._delimiter))
        if len(names) > COLUMNS_MAX:
            raise self.unreadable(Fault.COLUMN_UNKNOWN, f"at most {COLUMNS_MAX} columns")
        self._columns = [self._column(name, number) for number, name in enumerate(names, 1)]
        for column in self._columns:
            if self._columns.count(column) > 1:
                raise self.unreadable(Fault.COLUMN_TWICE, f"two columns mean {column}")
        for choice in REQUIRED:
            if not set(choice) & set(self._columns):
                raise self.unreadable(Fault.COLUMN_MISSING, f"no column is {' or '.join(choice)}")

    def _column(self, name: str, number: int) -> str:
        if not name.strip():
            return f"column_{number}"  # a delimiter too many: nothing may be below it
        field = field_of(name)
        if field is None:
            raise self.unreadable(Fault.COLUMN_UNKNOWN, f"column {number} has an unknown name: {name.strip()[:60]!r}")
        return field

    def _byte(self, characters: int) -> int:
        """Where so many characters of the rest end, in the body."""
        return self.offset + len(self._rest[:characters].encode(self._characters.charset))


class _Characters:
    """The characters of bytes: UTF-8 as long as it can be, Windows-1252 when the first byte beyond ASCII is not."""

    def __init__(self, charset: str | None) -> None:
        self.charset = CHARSETS[charset]
        self.mark_bytes = 0
        self._guessed = charset is None  # and nothing but ASCII has come
        self._started = False
        self._pending = b""

    def of(self, block: bytes, *, final: bool) -> tuple[str, bool]:
        """What can be read, and whether something follows that cannot."""
        if not self._started:
            self._started = True
            if 0 in block[:4] or block.startswith(FOREIGN_STARTS):
                return "", True
            block = self._without_mark(block)
        return self._decoded(self._pending + block, final=final)

    def _without_mark(self, block: bytes) -> bytes:
        if not block.startswith(codecs.BOM_UTF8):
            return block
        self.charset, self._guessed = UTF8, False
        self.mark_bytes = len(codecs.BOM_UTF8)
        return block[self.mark_bytes :]

    def _decoded(self, data: bytes, *, final: bool) -> tuple[str, bool]:
        self._pending = b""
        try:
            text, damaged = data.decode(self.charset), False
        except UnicodeDecodeError as error:
            before = data[: error.start]
            damaged = final or error.reason != "unexpected end of data"
            if damaged and self._guessed and before.isascii():
                self.charset, self._guessed = WINDOWS, False
                return self._decoded(data, final=final)
            text = before.decode(self.charset)
            if not damaged:
                self._pending = data[error.start :]
        self._guessed = self._guessed and text.isascii()
        return text, damaged


def _complete(lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The records that end within these lines, each with its length; one that is open inside quotes is not."""
    asked_for_more = False

    def end_of_lines() -> Iterator[str]:
        nonlocal asked_for_more
        asked_for_more = True
        yield from ()

    reader = csv.reader(chain(lines, end_of_lines()), delimiter=delimiter)
    used = 0
    for record in reader:
        if asked_for_more:
            return
        yield sum(map(len, lines[used : reader.line_num])), record
        used = reader.line_num
