"""Rows made ready to be stored: what a worker does to each chunk, in plain data that goes from process to process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from resources.catalogue.copying import copied, copied_rejects, last_of_each
from resources.catalogue.products import decode
from resources.catalogue.rows import RawRow


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a load that become one chunk; `data` holds them in order, the first is number `row_first`."""

    load_id: UUID
    cnpj: str
    number: int
    row_first: int
    data: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chunk ready to be stored: its products as COPY text without repetitions, and what was left out."""

    number: int
    row_last: int
    rows: int
    keys: list[str]
    duplicates: int
    rejected: list[str]
    products: bytes
    rejects: bytes


def prepare(rows: Rows) -> Prepared:
    """These rows decoded, checked, each key once, in the order of keys."""
    decoded = decode([RawRow(number, data) for number, data in enumerate(rows.data, rows.row_first)], cnpj=rows.cnpj)
    products = last_of_each(decoded.products)
    return Prepared(
        number=rows.number,
        row_last=rows.row_first + len(rows.data) - 1,
        rows=len(rows.data),
        keys=[product.key for product in products],
        duplicates=len(decoded.products) - len(products),
        rejected=[str(reject.reason) for reject in decoded.rejects],
        products=copied(products),
        rejects=copied_rejects(decoded.rejects, prefix=f"{rows.load_id}\t{rows.number}"),
    )
