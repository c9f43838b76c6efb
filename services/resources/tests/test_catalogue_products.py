"""Rows become products or rejects: each once, for the first reason there is, with nothing lost and nothing guessed."""

from __future__ import annotations

import csv
import json
import string
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from contracts.values import gtin_is_valid
from hypothesis import example, given
from hypothesis import strategies as st
from resources.catalogue import Product, RawRow, Reject, decode

from services.resources.tests.catalogues import JSON_VALUES, TRICKY, a_row

VECTORS = Path(__file__).parents[3] / "contracts" / "tests" / "data" / "check_digit_vectors.csv"
GTIN = "7891000100103"
CNPJ = "11222333000181"


def raw(*rows: Any) -> list[RawRow]:
    """Rows as they come out of a body; text is taken as it is written."""
    return [
        RawRow(number, row if isinstance(row, bytes) else json.dumps(row).encode())
        for number, row in enumerate(rows, 1)
    ]


def the_product(**changes: Any) -> Product:
    """What a row becomes that must be one."""
    decoded = decode(raw(a_row(**changes)))
    assert decoded.rejects == []
    return decoded.products[0]


def the_reject(row: Any, **how: Any) -> Reject:
    """Why a row is none."""
    decoded = decode(raw(row), **how)
    assert decoded.products == []
    return decoded.rejects[0]


# -- products ------------------------------------------------------------------------------------------------------------


def test_a_full_row() -> None:
    """Every field a partner may write is in the product."""
    row = {
        "sku": "A-1", "gtin": GTIN, "name": " Leite em pó ", "brand": "Ninho", "category": "dairy", "price_cents": 1990,
        "stock": 12, "unit": "g", "storage": "chilled", "expires_on": "2026-12-31", "cnpj": "11.222.333/0001-81",
    }  # fmt: skip

    assert decode(raw(row), cnpj=CNPJ).products == [
        Product(1, GTIN, GTIN, "A-1", "Leite em pó", "Ninho", "dairy", 1990, 12, "g", "chilled", date(2026, 12, 31))
    ]


def test_a_small_row() -> None:
    """What is left out, null or blank is not there; unit and storage are then the usual ones."""
    nothing = dict.fromkeys(("gtin", "brand", "category", "unit", "storage", "expires_on", "cnpj", "price"))
    expected = Product(1, "A-0", None, "A-0", "Arroz 0", None, None, 1990, 12, "unit", "ambient", None)

    assert decode(raw(a_row())).products == [expected]
    assert decode(raw({**nothing, **a_row()})).products == [expected]
    assert decode(raw(a_row(gtin="", brand="  "))).products == [expected]


def test_the_key() -> None:
    """A product is known by its GTIN, and by its SKU when it has none."""
    assert the_product(gtin=GTIN).key == GTIN
    assert the_product(sku=None, gtin=GTIN).key == GTIN
    assert the_product(sku="0012").key == "0012"


@given(st.integers(0, 10**9), st.integers(0, 3), st.booleans())
@example(10**9, 0, True)
@example(1_999, 0, False)
def test_prices_are_exact(cents: int, zeros: int, as_text: bool) -> None:
    """Reais with two decimals are the same centavos, whether a number or text, however many zeros follow."""
    written = f"{cents // 100}.{cents % 100:02}" + "0" * zeros
    row = json.dumps(a_row(price_cents=None))[:-1] + f', "price": {json.dumps(written) if as_text else written}}}'

    assert decode(raw(row.encode())).products[0].price_cents == cents


@pytest.mark.parametrize(("written", "cents"), [("19.9", 1990), ("19", 1900), ("0.05", 5), ("0", 0), ('"7.5"', 750)])
def test_prices_with_fewer_decimals(written: str, cents: int) -> None:
    """Decimals that are not written are zeros."""
    row = json.dumps(a_row(price_cents=None))[:-1] + f', "price": {written}}}'

    assert decode(raw(row.encode())).products[0].price_cents == cents


@pytest.mark.parametrize("name", ["Café\u00a0moído", "👩\u200d🍳 kit", "Ação № 5", "\u0645\u0631\u062d\u0628\u0627"])
def test_names_of_all_kinds(name: str) -> None:
    """Wide spaces, joiners, signs and other scripts are names."""
    assert the_product(name=name).name == name


def test_the_same_key_twice() -> None:
    """Rows with the same key are all given, in their order and with their numbers."""
    products = decode(raw(a_row(stock=1), a_row(2), a_row(stock=3))).products

    assert [(each.row, each.key, each.stock) for each in products] == [(1, "A-0", 1), (2, "A-2", 12), (3, "A-0", 3)]


# -- rejects -------------------------------------------------------------------------------------------------------------

BAD: list[tuple[Any, str, str]] = [
    (a_row(gtin="7891000100104"), "/gtin", "gtin-check-digit"),
    (a_row(gtin="7.89E+12"), "/gtin", "gtin-scientific"),
    (a_row(gtin="7,89E+12"), "/gtin", "gtin-scientific"),
    (a_row(gtin="7891000100103.0"), "/gtin", "gtin-malformed"),
    (a_row(gtin="789100010010"), "/gtin", "gtin-check-digit"),
    (a_row(gtin="78910001001"), "/gtin", "gtin-malformed"),
    (a_row(gtin="٧٨٩١٠٠٠١٠٠١٠٣"), "/gtin", "gtin-malformed"),
    (a_row(gtin="0" * 13), "/gtin", "gtin-malformed"),
    (a_row(gtin="7" * 50), "/gtin", "too-long"),
    (a_row(gtin=7891000100103), "/gtin", "gtin-not-text"),
    (a_row(gtin=7.891e12), "/gtin", "gtin-not-text"),
    (a_row(gtin=[]), "/gtin", "wrong-type"),
    (a_row(sku=None), "", "key-missing"),
    (a_row(sku="  "), "", "key-missing"),
    (a_row(sku="x" * 65), "/sku", "too-long"),
    (a_row(sku="a\u202eb"), "/sku", "control-character"),
    (a_row(name=None), "/name", "field-missing"),
    (a_row(name=" \t "), "/name", "field-missing"),
    (a_row(name="a\u0000b"), "/name", "control-character"),
    (a_row(name="a\nb"), "/name", "control-character"),
    (a_row(name="a\u2028b"), "/name", "control-character"),
    (a_row(name="x" * 201), "/name", "too-long"),
    (a_row(name=5), "/name", "wrong-type"),
    (a_row(brand="x" * 101), "/brand", "too-long"),
    (a_row(price_cents=None), "/price_cents", "price-missing"),
    (a_row(price_cents=-1), "/price_cents", "out-of-range"),
    (a_row(price_cents=10**9 + 1), "/price_cents", "out-of-range"),
    (a_row(price_cents=10**30), "/price_cents", "out-of-range"),
    (a_row(price_cents=19.9), "/price_cents", "wrong-type"),
    (a_row(price_cents="1990"), "/price_cents", "wrong-type"),
    (a_row(price=19.9), "/price", "price-twice"),
    (a_row(price_cents=None, price=-19.9), "/price", "out-of-range"),
    (a_row(price_cents=None, price=10000000.01), "/price", "out-of-range"),
    (a_row(price_cents=None, price="9" * 13), "/price", "out-of-range"),
    (a_row(price_cents=None, price="19.905"), "/price", "price-decimals"),
    (a_row(price_cents=None, price=0.1 + 0.2), "/price", "price-decimals"),
    (a_row(price_cents=None, price="19,90"), "/price", "price-malformed"),
    (a_row(price_cents=None, price="\u0665"), "/price", "price-malformed"),
    (a_row(price_cents=None, price="1_0"), "/price", "price-malformed"),
    (a_row(price_cents=None, price="NaN"), "/price", "price-malformed"),
    (a_row(price_cents=None, price=1e30), "/price", "price-malformed"),
    (a_row(price_cents=None, price=""), "/price", "price-malformed"),
    (a_row(price_cents=None, price=[1]), "/price", "price-malformed"),
    (a_row(stock=None), "/stock", "field-missing"),
    (a_row(stock=-1), "/stock", "out-of-range"),
    (a_row(stock=10**9 + 1), "/stock", "out-of-range"),
    (a_row(stock=1.5), "/stock", "wrong-type"),
    (a_row(stock=True), "/stock", "wrong-type"),
    (a_row(unit="kg"), "/unit", "value-unknown"),
    (a_row(storage="cold"), "/storage", "value-unknown"),
    (a_row(category="Dairy"), "/category", "value-unknown"),
    (a_row(expires_on="2026-02-30"), "/expires_on", "date-malformed"),
    (a_row(expires_on="31/12/2026"), "/expires_on", "date-malformed"),
    (a_row(cnpj="11222333000182"), "/cnpj", "cnpj-invalid"),
    (a_row(cnpj="00.000.000/0001-91"), "/cnpj", "cnpj-foreign"),
    (a_row(ncm="1"), "/ncm", "field-unknown"),
    ({"a/b~c": 1, **a_row()}, "/a~1b~0c", "field-unknown"),
    ({"`": 1, **a_row()}, "/`", "field-unknown"),
    ([a_row()], "", "not-an-object"),
    (b"null", "", "not-an-object"),
    (b"", "", "json-malformed"),
    (b'{"name":', "", "json-malformed"),
    (b'{"sku":"a","name":"b","price_cents":1,"stock":NaN}', "", "json-malformed"),
    (b'{"sku":"a","name":"b","price_cents":1,"stock":1e999}', "/stock", "out-of-range"),
    (b'{"sku":"a","name":"b","price_cents":1,"stock":1} {}', "", "json-malformed"),
    (b'{"sku":"a","name":"\\ud800","price_cents":1,"stock":1}', "", "json-malformed"),
    (b'{"sku":"a","name":"p\xe3o","price_cents":1,"stock":1}', "", "not-utf8"),
    (b'{"price":' + b"[" * 60_000 + b"]" * 60_000 + b"}", "", "json-malformed"),
]


@pytest.mark.parametrize(("row", "pointer", "reason"), BAD)
def test_what_is_no_product(row: Any, pointer: str, reason: str) -> None:
    """Each rule that a row breaks has its word and its place."""
    reject = the_reject(row, cnpj=CNPJ)

    assert (reject.pointer, reject.reason) == (pointer, reason)
    assert reject.detail


def vectors() -> list[tuple[str, str, bool]]:
    """What other implementations say of codes, without the punctuation of print."""
    with VECTORS.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [
        (row["kind"].partition("_")[0], "".join(c for c in row["value"] if c not in "./- "), row["valid"] == "1")
        for row in rows
    ]


@pytest.mark.parametrize(("field", "code", "valid"), vectors())
def test_check_digit_vectors(field: str, code: str, valid: bool) -> None:
    """A code of another implementation's vectors is taken when that says it is one."""
    assert bool(decode(raw(a_row(**{field: code}))).products) == valid


@given(st.sampled_from([7, 11, 12, 13]).flatmap(lambda n: st.text(string.digits, min_size=n, max_size=n)))
def test_one_check_digit_per_code(body: str) -> None:
    """Of the ten endings of a code exactly one is a GTIN: the one that GS1's sum from the right gives."""
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(body)))

    assert [digit for digit in string.digits if gtin_is_valid(body + digit)] == [str(-total % 10)]


def test_a_reject_as_partners_see_it() -> None:
    """A reject is a line of JSON: bounded, with the row as it came and nothing that a terminal or a database minds."""
    row = json.dumps({"\x00" * 5_000: 1, **a_row()}).encode() + b"\x00\x1b[31m"

    line = msgspec.json.encode(the_reject(row))

    assert set(json.loads(line)) == {"row", "pointer", "code", "detail", "raw"}
    assert len(line) < 4_000
    assert all(character.isprintable() or character == "\ufffd" for character in line.decode())
    assert the_reject(b"\x00" + row).raw.startswith('\ufffd{"')


# -- a chunk -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([None, *range(len(BAD) - 1)]), max_size=40))
def test_every_planted_fault_is_found_at_its_row(plan: list[int | None]) -> None:
    """Among good rows the bad ones, and no others, are rejected, each for its own reason."""
    rows = [a_row(number) if bad is None else BAD[bad][0] for number, bad in enumerate(plan, 1)]

    decoded = decode(raw(*rows), cnpj=CNPJ)

    assert [each.key for each in decoded.products] == [f"A-{n}" for n, bad in enumerate(plan, 1) if bad is None]
    assert [(each.row, each.pointer, each.reason) for each in decoded.rejects] == [
        (number, *BAD[bad][1:]) for number, bad in enumerate(plan, 1) if bad is not None
    ]


FIELDS = st.sampled_from(["sku", "gtin", "name", "price", "price_cents", "stock", "unit", "expires_on", "cnpj", "x"])


@given(st.lists(st.binary(max_size=20) | st.builds(json.dumps, st.dictionaries(FIELDS, JSON_VALUES)).map(str.encode)))
@example([b'{"name":"a', b'b"}', b"{},{}"])
def test_any_row_is_judged(rows: list[bytes]) -> None:
    """Any bytes at all are a product or a reject, exactly one of them, and rows never run into each other."""
    decoded = decode(raw(*rows))

    numbers = sorted([each.row for each in decoded.products] + [each.row for each in decoded.rejects])
    assert numbers == list(range(1, len(rows) + 1))


@given(TRICKY, st.integers(0, 10**9), st.sampled_from(["unit", "g", "ml", "portion"]))
def test_what_is_written_is_decoded(name: str, stock: int, unit: str) -> None:
    """A name without control characters and any stock and unit are the product's."""
    decoded = decode(raw(a_row(name=f"x{name}x", stock=stock, unit=unit)))

    for product in decoded.products:
        assert (product.name, product.stock, product.unit) == (f"x{name}x", stock, unit)
    for reject in decoded.rejects:
        assert reject.reason == "control-character"
        assert not name.isprintable()
