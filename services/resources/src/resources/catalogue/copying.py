"""Products and rejects as PostgreSQL's COPY takes them: text, a row a line, built once and sent as it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from resources.catalogue.plain import plain
from resources.catalogue.products import Product
from resources.catalogue.rejects import Reject

PRODUCT_COLUMNS = (
    "key", "gtin", "sku", "name", "brand", "category", "price_cents", "stock", "unit", "storage", "expires_on",
    "plain_name",
)  # fmt: skip


def last_of_each(products: Sequence[Product]) -> list[Product]:
    """One product for each key, the last; sorted by key, as the database compares it."""
    last = {product.key: product for product in products}
    return [last[key] for key in sorted(last)]


def copied(products: Iterable[Product]) -> bytes:
    """Products as COPY text of `PRODUCT_COLUMNS`."""
    return "".join([_line(product) for product in products]).encode()


def copied_rejects(rejects: Iterable[Reject], *, prefix: str) -> bytes:
    """Rejects as COPY text, each behind the columns of `prefix`: row, pointer, code, detail, raw."""
    return "".join([
        f"{prefix}\t{each.row}\t{_safe(each.pointer)}\t{each.reason}\t{_safe(each.detail)}\t{_safe(each.raw)}\n"
        for each in rejects
    ]).encode()  # fmt: skip


def _line(p: Product) -> str:
    # The only character with a meaning that a product's texts may have: control characters were refused with their row.
    if _has_backslash(p):
        return _escaped(p)
    return (
        f"{p.key}\t{_nullable(p.gtin)}\t{_nullable(p.sku)}\t{p.name}\t{_nullable(p.brand)}\t{_nullable(p.category)}\t"
        f"{p.price_cents}\t{p.stock}\t{p.unit}\t{p.storage}\t{_nullable(p.expires_on)}\t{plain(p.name)}\n"
    )


def _has_backslash(p: Product) -> bool:
    return (
        "\\" in p.name
        or "\\" in p.key
        or (p.sku is not None and "\\" in p.sku)
        or (p.brand is not None and "\\" in p.brand)
    )


def _escaped(p: Product) -> str:
    texts = [p.key, p.gtin, p.sku, p.name, p.brand, p.category]
    cells = ["\\N" if text is None else _safe(text) for text in texts]
    rest = (str(p.price_cents), str(p.stock), p.unit, p.storage, str(_nullable(p.expires_on)), _safe(plain(p.name)))
    return "\t".join((*cells, *rest)) + "\n"


def _nullable(value: object) -> object:
    return "\\N" if value is None else value


def _safe(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
