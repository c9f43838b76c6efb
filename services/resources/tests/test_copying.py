"""Products as COPY text: PostgreSQL reads back what was decoded, whatever characters it has."""

from __future__ import annotations

from datetime import date

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resources.catalogue import Product, RawRow, Reject, decode
from resources.catalogue.copying import PRODUCT_COLUMNS, copied, copied_rejects, last_of_each
from resources.catalogue.plain import plain
from resources.catalogue.products import Decoded

texts = st.text(min_size=1, max_size=20)


def a_product(row: int = 1, key: str = "A", **changed: object) -> Product:
    """A product with nothing special."""
    plain = {
        "gtin": None, "sku": key, "name": "Arroz", "brand": None, "category": None, "price_cents": 1, "stock": 2,
        "unit": "unit", "storage": "ambient", "expires_on": None,
    }  # fmt: skip
    return Product(row=row, key=key, **{**plain, **changed})  # type: ignore[arg-type]


def read(text: bytes) -> list[list[str | None]]:
    """COPY's text format, by its own rules (PostgreSQL documentation, COPY)."""
    words = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}

    def cell(raw: str) -> str | None:
        if raw == "\\N":
            return None
        found, escaped = [], False
        for character in raw:
            if escaped:
                found.append(words[character])
                escaped = False
            elif character == "\\":
                escaped = True
            else:
                found.append(character)
        return "".join(found)

    lines = text.decode().split("\n")
    assert lines.pop() == ""
    return [[cell(raw) for raw in line.split("\t")] for line in lines]


@given(name=texts, sku=texts, brand=texts | st.none())
def test_what_is_decoded_is_copied(name: str, sku: str, brand: str | None) -> None:
    """Every text that decoding lets through comes back as it was, backslashes and wide characters included."""
    row = msgspec.json.encode({"name": name, "sku": sku, "brand": brand, "price_cents": 5, "stock": 0})
    products = decode([RawRow(1, row)]).products

    cells = read(copied(products))

    for product, line in zip(products, cells, strict=True):
        assert len(line) == len(PRODUCT_COLUMNS)
        assert (line[0], line[2], line[3], line[4]) == (product.key, product.sku, product.name, product.brand)


def test_nothing_is_null_and_null_is_nothing() -> None:
    r"""What is absent is NULL, and a name that is written \N is a name."""
    product = a_product(name="\\N", expires_on=date(2026, 12, 31), category="dry")

    assert read(copied([product])) == [
        ["A", None, "A", "\\N", None, "dry", "1", "2", "unit", "ambient", "2026-12-31", "\\n"]
    ]


def test_the_last_of_each_key_counts() -> None:
    """One product for each key, sorted as bytes are."""
    products = [a_product(1, "b"), a_product(2, "a"), a_product(3, "b"), a_product(4, "B"), a_product(5, "é")]

    assert [(each.key, each.row) for each in last_of_each(products)] == [("B", 4), ("a", 2), ("b", 3), ("é", 5)]


@given(raw=texts, detail=texts)
def test_rejects_are_copied(raw: str, detail: str) -> None:
    """A reject keeps every character of the row it is about."""
    cells = read(copied_rejects([Reject(7, "/a\\b", "too-long", detail, raw)], prefix="id\t3"))

    assert cells == [["id", "3", "7", "/a\\b", "too-long", detail, raw]]


def test_a_chunk_may_have_no_products() -> None:
    """A chunk of rejects alone is an empty text."""
    assert copied(Decoded([], []).products) == b""


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Açúcar Cristal 1 kg", "acucar cristal 1 kg"),
        ("ÁGUA Nº 1", "agua no 1"),
        ("Нож", "нож"),
    ],
)
def test_names_are_searched_without_accents(name: str, wanted: str) -> None:
    """Accents, case and compatibility forms make no difference to who searches."""
    assert plain(name) == wanted
