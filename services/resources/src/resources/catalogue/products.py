"""Rows decoded into products: typed in compiled code, checked, and refused one by one with a reason."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import date
from typing import Annotated

import msgspec
from contracts.values import QUANTITY_MAX, Category, Storage, Unit, cnpj_is_valid, gtin_is_valid

from resources.catalogue.rejects import Refused, Reject, refusal_of, reject_of
from resources.catalogue.rows import RawRow

NAME_CHARACTERS_MAX = 200
BRAND_CHARACTERS_MAX = 100
SKU_CHARACTERS_MAX = 64
CODE_CHARACTERS_MAX = 40  # of a GTIN or CNPJ, before anybody looks at it
PRICE_CENTS_MAX = 10**9  # ten million reais: fits 32 bits

_NO_PRICE = msgspec.Raw(b"")
_PRICE = re.compile(rb'("?)([0-9]{1,12})(?:\.([0-9]{1,2})0*)?\1')
_NUMBER = re.compile(rb'"?-?[0-9]+(\.[0-9]+)?"?')
_SCIENTIFIC = re.compile(r"[0-9]+([.,][0-9]*)?[eE][+-]?[0-9]+")
_CNPJ_PUNCTUATION = str.maketrans("", "", "./-")
_UNSEEN = frozenset({"Cc", "Cs", "Co", "Zl", "Zp"})
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # text is not what it looks like


class Product(msgspec.Struct, frozen=True, gc=False):
    """A row that holds: `key` is its GTIN, or its SKU when it has none; `row` its number in the load."""

    row: int
    key: str
    gtin: str | None
    sku: str | None
    name: str
    brand: str | None
    category: Category | None
    price_cents: int
    stock: int
    unit: Unit
    storage: Storage
    expires_on: date | None


class Decoded(msgspec.Struct, frozen=True):
    """Every row of a chunk as the one or the other, in the order of the rows."""

    products: list[Product]
    rejects: list[Reject]


class _Row(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A row as partners write it; what is null is not there."""

    name: Annotated[str, msgspec.Meta(max_length=NAME_CHARACTERS_MAX)]
    stock: Annotated[int, msgspec.Meta(ge=0, le=QUANTITY_MAX)]
    gtin: Annotated[str, msgspec.Meta(max_length=CODE_CHARACTERS_MAX)] | None = None
    sku: Annotated[str, msgspec.Meta(max_length=SKU_CHARACTERS_MAX)] | None = None
    brand: Annotated[str, msgspec.Meta(max_length=BRAND_CHARACTERS_MAX)] | None = None
    category: Category | None = None
    price_cents: Annotated[int, msgspec.Meta(ge=0, le=PRICE_CENTS_MAX)] | None = None
    price: msgspec.Raw = _NO_PRICE
    unit: Unit | None = None
    storage: Storage | None = None
    expires_on: date | None = None
    cnpj: Annotated[str, msgspec.Meta(max_length=CODE_CHARACTERS_MAX)] | None = None


_decode_row = msgspec.json.Decoder(_Row).decode


def decode(rows: Sequence[RawRow], *, cnpj: str | None = None) -> Decoded:
    """The products of a chunk, and its other rows each with the first reason why it is none.

    `cnpj` is whose catalogue it is: a row that names another is refused. Rows with the same key are all given.
    """
    products: list[Product] = []
    rejects: list[Reject] = []
    for raw in rows:
        try:
            products.append(_product(raw.number, _decode_row(raw.data), cnpj))
        except Refused as refused:
            rejects.append(reject_of(raw, refused))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            rejects.append(reject_of(raw, refusal_of(error)))
    return Decoded(products, rejects)


def _product(number: int, row: _Row, cnpj: str | None) -> Product:
    gtin, sku = row.gtin or None, _text("/sku", row.sku)
    if gtin is not None and not (gtin_is_valid(gtin) and gtin.strip("0")):
        raise _gtin_refused(gtin)
    if gtin is None and sku is None:
        raise Refused("", "key-missing", "a product has a gtin or a sku")
    name = _text("/name", row.name)
    if name is None:
        raise Refused("/name", "field-missing", "a product has a name")
    if row.cnpj is not None:
        _check_cnpj(row.cnpj, cnpj)
    return Product(
        number,
        gtin or sku or "",
        gtin,
        sku,
        name,
        _text("/brand", row.brand),
        row.category,
        _price_cents(row),
        row.stock,
        row.unit or "unit",
        row.storage or "ambient",
        row.expires_on,
    )


def _text(pointer: str, text: str | None) -> str | None:
    """Text without space around it; none when nothing is left."""
    if text is None or not (text := text.strip()):
        return None
    if not text.isprintable():
        for character in text:  # wide spaces and joiners are not printable either, and harmless
            if character in _TURNING or unicodedata.category(character) in _UNSEEN:
                detail = f"U+{ord(character):04X} is not for a text that people read"
                raise Refused(pointer, "control-character", detail)
    return text


def _price_cents(row: _Row) -> int:
    """The one price that a row tells, exactly."""
    price = b"null" if row.price is _NO_PRICE else bytes(row.price)
    if price != b"null":
        if row.price_cents is not None:
            raise Refused("/price", "price-twice", "price_cents or price, not both")
        return _cents(price)
    if row.price_cents is None:
        raise Refused("/price_cents", "price-missing", "a product has a price_cents, or a price in reais")
    return row.price_cents


def _cents(price: bytes) -> int:
    """Reais as centavos; from the digits, never through binary fractions."""
    found = _PRICE.fullmatch(price)
    if found is None:
        if _NUMBER.fullmatch(price) is None:
            raise Refused("/price", "price-malformed", "a price is reais with a decimal point, such as 19.90")
        if price.lstrip(b'"').startswith(b"-"):
            raise Refused("/price", "out-of-range", "a price is at least 0")
        if b"." in price:
            raise Refused("/price", "price-decimals", "a price has at most two decimals")
        raise Refused("/price", "out-of-range", f"a price is at most {PRICE_CENTS_MAX} centavos")
    cents = int(found[2]) * 100 + int((found[3] or b"0").ljust(2, b"0"))
    if cents > PRICE_CENTS_MAX:
        raise Refused("/price", "out-of-range", f"a price is at most {PRICE_CENTS_MAX} centavos")
    return cents


def _gtin_refused(gtin: str) -> Refused:
    if _SCIENTIFIC.fullmatch(gtin):
        return Refused("/gtin", "gtin-scientific", "a spreadsheet wrote this code as a number: its digits are lost")
    if len(gtin) not in (8, 12, 13, 14) or not (gtin.isascii() and gtin.isdigit()) or not gtin.strip("0"):
        return Refused("/gtin", "gtin-malformed", "a GTIN is 8, 12, 13 or 14 digits; codes of your own go in sku")
    return Refused("/gtin", "gtin-check-digit", "the last digit does not fit the others; codes of your own go in sku")


def _check_cnpj(told: str, expected: str | None) -> None:
    cnpj = told.translate(_CNPJ_PUNCTUATION)
    if not cnpj_is_valid(cnpj):
        raise Refused("/cnpj", "cnpj-invalid", "a CNPJ is 14 characters with two check digits")
    if expected is not None and cnpj != expected:
        raise Refused("/cnpj", "cnpj-foreign", "the row is of another CNPJ than the load")
