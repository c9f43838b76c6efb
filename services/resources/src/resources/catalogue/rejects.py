"""Why a row is no product: the field, a stable word, and a sentence for whoever mends it."""

from __future__ import annotations

import re

import msgspec

from resources.catalogue.rows import RawRow

POINTER_CHARACTERS_MAX = 100
DETAIL_CHARACTERS_MAX = 200
RAW_BYTES_MAX = 500  # enough to find the row in the partner's own file; a million of them are kept

_AT = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# How the compiled decoder's messages begin; the first that fits says which rule was broken.
_RULES = (
    (re.compile(r"Expected `object`"), "not-an-object"),
    (re.compile(r"Expected `str` of length"), "too-long"),
    (re.compile(r"Expected `int` [<>]="), "out-of-range"),
    (re.compile(r"Number out of range"), "out-of-range"),
    (re.compile(r"Expected "), "wrong-type"),
    (re.compile(r"Invalid enum value"), "value-unknown"),
    (re.compile(r"Invalid RFC3339 encoded date"), "date-malformed"),
)


class Reject(msgspec.Struct, frozen=True, gc=False, rename={"reason": "code"}):
    """A row that is not applied; encoded, it is a line of the rejects that partners download."""

    row: int
    pointer: str
    reason: str
    detail: str
    raw: str


class Refused(Exception):
    """What is wrong with a row, and where in it: a JSON pointer, empty for the row as a whole."""

    def __init__(self, pointer: str, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.pointer = pointer
        self.reason = reason
        self.detail = detail


def reject_of(raw: RawRow, refused: Refused) -> Reject:
    """The reject to keep: bounded, and without characters that a database or a terminal minds."""
    return Reject(
        raw.number,
        _clean(refused.pointer)[:POINTER_CHARACTERS_MAX],
        refused.reason,
        _clean(refused.detail)[:DETAIL_CHARACTERS_MAX],
        _clean(raw.data[:RAW_BYTES_MAX].decode(errors="replace")),
    )


def refusal_of(error: Exception) -> Refused:
    """What the compiled decoder found."""
    if isinstance(error, UnicodeDecodeError):
        return Refused("", "not-utf8", "a text is not UTF-8")
    if isinstance(error, RecursionError):
        return Refused("", "json-malformed", "too deep")
    if not isinstance(error, msgspec.ValidationError):
        return Refused("", "json-malformed", str(error))
    if field := _FIELD.fullmatch(str(error)):
        reason = "field-missing" if field[1].startswith("missing") else "field-unknown"
        return Refused(_pointer(field[2]), reason, str(error))
    placed = _AT.fullmatch(str(error))
    message, pointer = (placed[1], _pointer(placed[2])) if placed else (str(error), "")
    if pointer == "/gtin" and message.endswith(("got `int`", "got `float`")):
        return Refused(pointer, "gtin-not-text", "a GTIN is text: as a number it loses its leading zeros")
    reason = next((reason for rule, reason in _RULES if rule.match(message)), "invalid")
    return Refused(pointer, reason, message)


def _pointer(field: str) -> str:
    return "/" + field.replace("~", "~0").replace("/", "~1")


def _clean(text: str) -> str:
    return _CONTROL.sub("\ufffd", text)
