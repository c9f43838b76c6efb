"""Makes the small files beside it from the full cleaned sources: `python -m scripts.data.extract FOLDER`.

The same sources give the same bytes: rows are chosen by rule and by position, never at random.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
Row = dict[str, str]

SHELTER_COLUMNS = ("shelter_id", "name", "address", "city", "cep", "lat", "lon", "pets_only", "capacity")
NEED_COLUMNS = ("shelter_id", "supply_name", "supply_category", "priority", "quantity")
MUNICIPALITY_COLUMNS = ("ibge_code", "name", "lat", "lon", "timezone")
PRODUCT_COLUMNS = ("description", "category")

STATE = "RS"
# "Under control" is no need any more; vehicles and rescue are no goods; letters without meaning are no name.
PRIORITIES_WANTED = {"urgent", "needing", "remaining"}
SUPPLY_CATEGORIES_LEFT_OUT = {"Veículos de Resgate e Transporte"}
NO_GOODS = re.compile(r"não estão|qwdpok|gasolina|gás \d|centro assistencial|não precisa", re.IGNORECASE)
NEEDS_PER_SHELTER_MAX = 16
PRODUCTS_PER_CLASS = {"alimentos": 480, "cosmeticos": 120, "matlimpeza": 120}
# Of cosmetics and cleaning materials those that a shelter asks for: no lipstick and no incense.
USEFUL = {
    "alimentos": re.compile(""),
    "cosmeticos": re.compile(
        r"\b(sabonete|sab|shampoo|sh|xampu|condicionador|cond|desodorante|deso?d|creme dental|cd|fralda|len[cç]o|absorv\w*"
        r"|escova dent\w*|esc dent\w*|mamadeira|chupeta|fio dental|hastes|algodao|repelente|talco)\b", re.IGNORECASE),
    "matlimpeza": re.compile(
        r"\b(deterg\w*|det|sabao|sb|agua sanit\w*|desinf\w*|amac\w*|alvej\w*|esponja|rodo|vassoura|sacos?|sc|lava\w*|limp\w*"
        r"|alcool|alc|pano|cloro|balde|escova|luva|sapolio|multiuso)\b", re.IGNORECASE),
}  # fmt: skip
# Texts with tax notes, lots, dates, dangerous goods or codes only are no names of a product.
NO_PRODUCT_NAME = re.compile(
    r"tribut|vlr aprox|lote|valid|fonte|onu \d|\||;|fci|gtin|r\$|\d{6}|[a-z]{2}\d{4}", re.IGNORECASE
)
NAME_CHARS = range(10, 61)


def read(folder: Path, name: str) -> list[Row]:
    """All rows of a source file."""
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(name: str, columns: Sequence[str], rows: Iterable[Row]) -> int:
    """Replace one of our files; returns its number of rows."""
    chosen = [{column: row[column] for column in columns} for row in rows]
    with (HERE / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(chosen)
    return len(chosen)


def shelters(rows: Iterable[Row]) -> list[Row]:
    """Those with coordinates."""
    return [row for row in rows if row["lat"] and row["lon"]]


def needs(rows: Iterable[Row], known: Iterable[Row]) -> list[Row]:
    """What those shelters still asked for, each thing once, at most so many of one shelter."""
    wanted = {row["shelter_id"] for row in known}
    names: dict[str, set[str]] = defaultdict(set)
    chosen = []
    for row in rows:
        shelter, name = row["shelter_id"], row["supply_name"].strip().casefold()
        full = shelter not in wanted or len(names[shelter]) >= NEEDS_PER_SHELTER_MAX or name in names[shelter]
        if full or not _is_need(row):
            continue
        names[shelter].add(name)
        chosen.append(row)
    return chosen


def _is_need(row: Row) -> bool:
    return (
        row["priority"] in PRIORITIES_WANTED
        and row["supply_category"] not in SUPPLY_CATEGORIES_LEFT_OUT
        and not NO_GOODS.search(row["supply_name"])
    )


def catalogue(rows: Iterable[Row]) -> list[Row]:
    """Every readable text once."""
    found: dict[str, Row] = {}
    for row in _readable(rows):
        found.setdefault(row["description"].casefold(), row)
    return list(found.values())


def products(rows: Iterable[Row]) -> list[Row]:
    """Of each class so many readable texts, evenly spread over the file."""
    by_class: dict[str, list[Row]] = defaultdict(list)
    for row in _readable(rows):
        if USEFUL[row["category"]].search(row["description"]):
            by_class[row["category"]].append(row)
    chosen = []
    for category, count in PRODUCTS_PER_CLASS.items():
        step = len(by_class[category]) // count
        chosen += by_class[category][::step][:count]
    return chosen


def _readable(rows: Iterable[Row]) -> Iterator[Row]:
    """Those whose text is the name of a product, without list marks."""
    for row in rows:
        name = row["description"].strip(" -*.")
        if len(name) in NAME_CHARS and not NO_PRODUCT_NAME.search(name):
            yield {"description": name, "category": row["category"]}


def main() -> None:
    """Write every file and say how many rows each has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the cleaned sources are, named as in SOURCES.md")
    folder: Path = parser.parse_args().folder
    places = shelters(read(folder, "shelters_rs_2024.csv"))
    asked = needs(read(folder, "shelter_needs_rs_2024.csv"), places)
    seats = [row for row in read(folder, "municipalities_br.csv") if row["uf"] == STATE]
    texts = read(folder, "product_descriptions_labelled.csv")
    print("shelters.csv", write("shelters.csv", SHELTER_COLUMNS, places))
    print("needs.csv", write("needs.csv", NEED_COLUMNS, asked))
    print("municipalities_rs.csv", write("municipalities_rs.csv", MUNICIPALITY_COLUMNS, seats))
    print("products.csv", write("products.csv", PRODUCT_COLUMNS, products(texts)))
    print("catalogue.csv", write("catalogue.csv", PRODUCT_COLUMNS, catalogue(texts)))


if __name__ == "__main__":
    main()
