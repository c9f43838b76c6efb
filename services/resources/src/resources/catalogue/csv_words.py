"""How Brazilian spreadsheets and tills write a product: names of columns, words, numbers and dates.

Columns are known by these names, whatever their case, accents, spaces, points and underscores:

| field | column |
| --- | --- |
| sku | sku, código, código interno, código do produto, referência |
| gtin | gtin, ean, ean-13, código de barras, barcode, upc |
| name | name, nome, produto, descrição, description |
| brand | brand, marca |
| category | category, categoria |
| price | price, preço, preço de venda, valor: in reais, with a decimal comma or point |
| price_cents | price_cents, preço em centavos |
| stock | stock, estoque, quantidade, qtd, saldo |
| unit | unit, unidade, unidade de medida, un |
| storage | storage, armazenamento, conservação |
| expires_on | expires_on, validade, data de validade, vencimento: 2026-12-31 or 31/12/2026 |
| cnpj | cnpj |

What cannot be read as its column means stays as it is written, and is rejected with its row.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

Cell = str | int

WORDS_KEPT = 1_000  # a column of words has some dozens
COLUMNS = {
    "sku": ("sku", "codigo", "cod", "codigointerno", "codigodoproduto", "codigoproduto", "referencia"),
    "gtin": ("gtin", "ean", "ean13", "gtinean", "codigodebarras", "codigobarras", "codbarras", "barcode", "upc"),
    "name": ("name", "nome", "produto", "descricao", "nomedoproduto", "description"),
    "brand": ("brand", "marca"),
    "category": ("category", "categoria"),
    "price": ("price", "preco", "precodevenda", "precovenda", "valor", "precor$"),
    "price_cents": ("pricecents", "precocentavos", "precoemcentavos"),
    "stock": ("stock", "estoque", "quantidade", "qtd", "qtde", "saldo", "quantity"),
    "unit": ("unit", "unidade", "unidadedemedida", "un"),
    "storage": ("storage", "armazenamento", "conservacao"),
    "expires_on": ("expireson", "validade", "datadevalidade", "vencimento"),
    "cnpj": ("cnpj",),
}
UNITS = {
    "un": "unit", "und": "unit", "unid": "unit", "unidade": "unit", "pc": "unit", "peca": "unit",
    "porcao": "portion", "grama": "g", "gramas": "g", "mililitro": "ml", "mililitros": "ml",
}  # fmt: skip
STORAGES = {
    "ambiente": "ambient",
    "refrigerado": "chilled",
    "resfriado": "chilled",
    "congelado": "frozen",
    "quente": "hot",
}
CATEGORIES = {
    "preparados": "prepared", "hortifruti": "produce", "laticinios": "dairy", "padaria": "bakery",
    "carnesepeixes": "meat_fish", "mercearia": "dry", "bebidas": "beverage", "bebe": "baby", "higiene": "hygiene",
    "limpeza": "cleaning", "vestuario": "clothing", "camaebanho": "bedding", "pet": "pet", "medicamentos": "medicine",
    "embalagens": "packaging", "outros": "other",
}  # fmt: skip

_FIELD_OF = {name: field for field, names in COLUMNS.items() for name in names}
_APART = re.compile(r"[\s._()/-]+")
_MONEY = re.compile(r"(?:R\$\s*)?(\d{1,3}(?:\.\d{3})+(?=,)|\d{1,3}(?:,\d{3})+(?=\.)|\d+)(?:[.,](\d+))?", re.ASCII)
_WHOLE = re.compile(r"(\d{1,18})(?:[.,]0{1,2})?", re.ASCII)
_DAY_FIRST = re.compile(r"(\d{2})/(\d{2})/(\d{4})", re.ASCII)
_FORMULA = re.compile(r'="(.*)"', re.DOTALL)


def field_of(column: str) -> str | None:
    """The field that a column of this name holds."""
    return _FIELD_OF.get(plain(column))


def plain(text: str) -> str:
    """A word without case, accents, spaces and punctuation."""
    letters = unicodedata.normalize("NFD", text.casefold())
    return _APART.sub("", "".join(c for c in letters if not unicodedata.combining(c)))


def _money(text: str) -> Cell:
    """`1.234,56`, `1,234.56`, `R$ 10` with a decimal point and nothing else; exact, because it stays text."""
    found = _MONEY.fullmatch(text)
    if found is None:
        return text
    whole = found[1].replace(".", "").replace(",", "")
    return whole if found[2] is None else f"{whole}.{found[2]}"


def _whole(text: str) -> Cell:
    """A whole number; `12,00` is one, `12,000` could be twelve or twelve thousand and stays text."""
    found = _WHOLE.fullmatch(text)
    return int(found[1]) if found else text


def _date(text: str) -> Cell:
    """A date with the year first."""
    return _DAY_FIRST.sub(r"\3-\2-\1", text) if _DAY_FIRST.fullmatch(text) else text


def _code(text: str) -> Cell:
    """A code without what keeps spreadsheets from taking it for a number: `="789…"`, `'789…`."""
    found = _FORMULA.fullmatch(text)
    return found[1] if found else text.removeprefix("'")


def _word(words: dict[str, str]) -> Callable[[str], Cell]:
    @lru_cache(maxsize=WORDS_KEPT)
    def translated(text: str) -> Cell:
        return words.get(plain(text), text.lower())

    return translated


def _as_written(text: str) -> Cell:
    return text


READERS: dict[str, Callable[[str], Cell]] = {
    "sku": _code,
    "gtin": _code,
    "cnpj": _code,
    "name": _as_written,
    "brand": _as_written,
    "price": _money,
    "price_cents": _whole,
    "stock": _whole,
    "unit": _word(UNITS),
    "storage": _word(STORAGES),
    "category": _word(CATEGORIES),
    "expires_on": _date,
}
