"""JSON taken apart into rows: lines of NDJSON, and the elements of an array that is never held whole."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from enum import Enum, auto

import msgspec

from resources.catalogue.rows import Fault, Limits, RawRow, Splitter

CUTS_MAX = 4  # ends of a block tried: a name with "}," in it costs one, and then there is the exact way

_VALUE = msgspec.json.Decoder(msgspec.Raw)
_VALUES = msgspec.json.Decoder(list[msgspec.Raw])
_MALFORMED = (msgspec.DecodeError, RecursionError)
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["{}\[\]]', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb'[^\s,"{}\[\]]+')
_PAIRS = {ord("}"): ord("{"), ord("]"): ord("[")}
_FOREIGN_STARTS = {
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    b"\x1f\x8b": "gzip without Content-Encoding",
}


class JsonRows(Splitter):
    """What both have in common: UTF-8 without or with its mark, lines in the end, rows of bounded length."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._started = False

    def without_mark(self, block: bytes) -> bytes:
        """A block, and the first one without its byte order mark; other encodings are known by theirs."""
        if self._started:
            return block
        self._started = True
        for start, name in _FOREIGN_STARTS.items():
            if block.startswith(start):
                raise self.unreadable(Fault.ENCODING, f"UTF-8 is meant, this is {name}")
        if 0 in block[:4]:
            raise self.unreadable(Fault.ENCODING, "UTF-8 is meant, this is UTF-16 or UTF-32")
        if block.startswith(codecs.BOM_UTF8):
            self.offset += len(codecs.BOM_UTF8)
            return block[len(codecs.BOM_UTF8) :]
        return block

    def checked(self, rows: list[bytes], text: bytes) -> list[RawRow]:
        """The rows found in a text that begins at `offset`, when all of it is UTF-8 and none is too long."""
        if rows and max(map(len, rows)) > self.row_bytes_max:
            ahead = next(i for i, row in enumerate(rows) if len(row) > self.row_bytes_max)
            raise self.too_long(ahead=ahead, offset=self.offset + _start_of(rows, ahead, text))
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError as error:
                ahead = next((i for i, row in enumerate(rows) if not _is_utf8(row)), len(rows))
                where = self.offset + error.start
                raise self.unreadable(Fault.ENCODING, "not UTF-8", ahead=ahead, offset=where) from error
        return self.numbered(rows)


class LineRows(JsonRows):
    """NDJSON: a row is a line; blank lines are none."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._rest = b""

    def feed(self, block: bytes) -> list[RawRow]:
        """The lines that end in this block."""
        text = self._rest + self.without_mark(block)
        end = text.rfind(b"\n") + 1
        rows = self.checked(_lines(text[:end]), text[:end])
        self._rest = text[end:]
        self.offset += end
        if len(self._rest) > self.row_bytes_max:
            raise self.too_long()
        return rows

    def close(self) -> list[RawRow]:
        """The last line, when no line end follows it; it is cut off when it is only the beginning of something."""
        for row in _lines(self._rest):
            try:
                _VALUE.decode(row)
            except _MALFORMED as error:
                if "truncated" in str(error):
                    detail = "the last line ends in the middle of a value"
                    raise self.unreadable(Fault.JSON_TRUNCATED, detail) from error
        return self.checked(_lines(self._rest), self._rest)


class Awaited(Enum):
    """What comes next in an array."""

    ELEMENT_OR_END = auto()
    ELEMENT = auto()
    COMMA_OR_END = auto()


class ArrayRows(JsonRows):
    """A JSON array of products, or an object whose only member is such an array, `products`.

    Most of a block is cut at the last `},` and checked and taken apart by the compiled decoder: that the text up to a
    comma is a list proves that the comma ends an element. Where that fails, elements are found one by one.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._rest = b""
        self._at = 0  # in the rest
        self._tokens: list[bytes] | None = None  # of what encloses the array, those still awaited
        self._closing: list[bytes] = []
        self._awaited: Awaited | None = Awaited.ELEMENT_OR_END  # None: the array has ended

    def feed(self, block: bytes) -> list[RawRow]:
        """The elements that end in this block."""
        self._rest += self.without_mark(block)
        found = self._elements() if self._opened() else []
        if self._awaited is None:
            self._closed(ahead=len(found))
        rows = self.checked(found, self._rest[: self._at])
        self.offset += self._at
        self._rest, self._at = self._rest[self._at :], 0
        if len(self._rest) > self.row_bytes_max:
            raise self.too_long()
        return rows

    def close(self) -> list[RawRow]:
        """Nothing: an array ends with its bracket, or the body is cut off; of white space alone it is empty."""
        if self._tokens or (self._tokens is not None and self._awaited is not None):
            where = self.offset + len(self._rest)
            raise self.unreadable(Fault.JSON_TRUNCATED, "the body ends in the middle of the array", offset=where)
        return []

    def _opened(self) -> bool:
        """Whether the array has begun and not ended."""
        if self._tokens is None:
            first = self._next_byte()
            if not first:
                return False
            self._tokens = [b"["] if first == b"[" else [b"{", b'"products"', b":", b"["]
            self._closing = [] if first == b"[" else [b"}"]
        if self._awaited is None or self._take_tokens():
            return self._awaited is not None
        if not self._tokens[0].startswith(self._rest[self._at :]):
            raise self._fault(Fault.NOT_PRODUCTS, 'an array or {"products": [...]} is meant, and nothing beside it')
        return False

    def _closed(self, *, ahead: int) -> None:
        """After the array only what closes its enclosure, and white space."""
        self._take_tokens()
        if self._next_byte():
            raise self._fault(Fault.TRAILING_DATA, "something follows the array", ahead=ahead)

    def _take_tokens(self) -> bool:
        """Whether all tokens that are awaited have come."""
        while self._tokens and self._next_byte() and self._rest.startswith(self._tokens[0], self._at):
            self._at += len(self._tokens.pop(0))
        return not self._tokens

    def _elements(self) -> list[bytes]:
        found: list[bytes] = []
        fast = True
        while first := self._next_byte():
            if self._awaited is Awaited.COMMA_OR_END and first == b",":
                self._at += 1
                self._awaited = Awaited.ELEMENT
            elif self._awaited is not Awaited.ELEMENT and first == b"]":
                self._at += 1
                self._awaited, self._tokens = None, self._closing
                break
            elif self._awaited is Awaited.COMMA_OR_END:
                raise self._fault(Fault.JSON_MALFORMED, "a comma is missing between two products", ahead=len(found))
            else:
                taken = self._many() if fast else []
                fast = fast and bool(taken)
                if not taken and not (taken := self._one(ahead=len(found))):
                    break
                found += taken
                self._awaited = Awaited.COMMA_OR_END
        return found

    def _many(self) -> Sequence[bytes]:
        """All elements up to a comma near the end, or none when the compiled decoder finds no list before it."""
        end = len(self._rest)
        for _ in range(CUTS_MAX):
            end = self._rest.rfind(b"},", self._at, end)
            if end < 0:
                break
            text = self._rest[self._at : end + 1]
            try:
                rows = [bytes(element) for element in _VALUES.decode(b"[" + text + b"]")]
            except _MALFORMED:
                continue
            self._at = end + 1
            return [row.replace(b"\n", b" ") for row in rows] if b"\n" in text else rows
        return []

    def _one(self, *, ahead: int) -> Sequence[bytes]:
        """The element that begins here, valid or not, or none while its end has not come."""
        end = self._end_of_element(ahead=ahead)
        if end is None:
            return []
        row = self._rest[self._at : end]
        self._at = end
        return [_one_line(row)]

    def _end_of_element(self, *, ahead: int) -> int | None:
        if self._rest[self._at] not in b'{["':
            scalar = _SCALAR.match(self._rest, self._at)
            if scalar is None:
                raise self._fault(Fault.JSON_MALFORMED, "a product is missing before this", ahead=ahead)
            return scalar.end() if scalar.end() < len(self._rest) else None
        open_brackets = bytearray()
        for token in _TOKEN.finditer(self._rest, self._at):
            first = self._rest[token.start()]
            if first in b"{[":
                open_brackets.append(first)
            elif first in _PAIRS and open_brackets.pop() != _PAIRS[first]:
                where = self.offset + token.start()
                raise self.unreadable(Fault.JSON_MALFORMED, "brackets do not match", ahead=ahead, offset=where)
            elif first == ord('"') and token.end() - token.start() == 1:
                return None  # the string goes on
            if not open_brackets:
                return token.end()
        return None

    def _next_byte(self) -> bytes:
        """The next byte that is no white space, or nothing; what is before it is done with."""
        space = _SPACE.match(self._rest, self._at)
        self._at = space.end() if space else self._at
        return self._rest[self._at : self._at + 1]

    def _fault(self, reason: Fault, detail: str, *, ahead: int = 0) -> Exception:
        return self.unreadable(reason, detail, ahead=ahead, offset=self.offset + self._at)


def _lines(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\n") if line and not line.isspace()]


def _one_line(row: bytes) -> bytes:
    """A value in one line; a line end where none may be becomes another thing that may not be there."""
    if b"\n" not in row:
        return row
    try:
        _VALUE.decode(row)
    except _MALFORMED:
        return row.replace(b"\n", b"\x0b")
    return row.replace(b"\n", b" ")


def _start_of(rows: Sequence[bytes], index: int, text: bytes) -> int:
    """Where in the text a row begins."""
    start = end = 0
    for row in rows[: index + 1]:
        start = max(text.find(row, end), end)
        end = start + len(row)
    return start


def _is_utf8(row: bytes) -> bool:
    try:
        row.decode()
    except UnicodeDecodeError:
        return False
    return True
