"""The real data that ships with the project, in the words of the platform; the same for every run."""

from __future__ import annotations

import csv
import math
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from contracts.values import cnpj_is_valid

FOLDER = Path(__file__).resolve().parents[1] / "data"
EARTH_KM = 6371.0
PORTO_ALEGRE = (-30.0331, -51.23)
BASE36 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

URGENCY_OF = {"urgent": "emergency", "needing": "high", "remaining": "low"}

# The first that matches decides; the category that people ticked is often wrong, the name rarely.
_CATEGORY_BY_NAME: tuple[tuple[str, str], ...] = (
    ("pet", r"\bra[cç][aã]o|animal|animais|\bpets?\b|cachorr|c[aã]es|\bgatos?|coleira|antipulga|veterin|canin|petisco"),
    ("baby", r"fralda(?!.*geri)|mamadeira|chupeta|f[oó]rmula|beb[eê]|assadura|len[cç]os? umedecid"),
    ("bedding", r"cobert|manta|len[cç][oó]|colch|travesseir|fronha|toalhas? de (banho|rosto)|edredo|roupas? de cama"),
    ("clothing", r"roupa|cal[cç]a|cueca|meias?\b|casaco|moletom|t[eê]nis|sapato|cal[cç]ado|chinelo|suti[aã]|agasalho|bota|touca de l"),
    ("packaging", r"descart|copos?\b|talher|prato|marmitex|embalage|sacola|papel toalha|garfo|colher|guardanapo|marmitas? de isopor"),
    ("cleaning", r"limp|desinfet|sab[aã]o|sanit[aá]ria|rodo|vassoura|balde|detergente|lixo|esponja|pano|cloro|[aá]lcool l|amaciante"),
    ("hygiene", r"shampoo|xampu|condicionador|sabonete|desodorante|dente|absorvente|papel higi|repelente|barbear|gilete"),
    ("hygiene", r"higiene|escova de cabelo|[aá]lcool em gel"),
    ("medicine", r"rem[eé]dio|medicament|seringa|curativo|gaze|soro|term[oô]metro|primeiros socorros|antibi"),
    ("medicine", r"insulina|vacina|verm[ií]fugo|\d ?mg\b|dipirona"),
    ("beverage", r"[aá]gua(?! sanit)|suco|refrigerante|achocolatado pronto|bebida"),
    ("dairy", r"leite|queijo|iogurte|margarina|manteiga|requeij"),
    ("meat_fish", r"carne|frango|lingui[cç]a|peixe|presunto|prote[ií]na|frios|salsicha|\bovos?\b"),
    ("produce", r"fruta|(?<!molho de )tomate|cebola|batata|verdura|legume|banana|ma[cç][aã]\b|\balho|cenoura|alface"),
    ("bakery", r"\bp[aã]o|p[aã]es|bolo|cuca"),
    ("prepared", r"marmita|lanche|sandu[ií]che|sopa|refei[cç]"),
    ("dry", r"arroz|feij[aã]o|massa|a[cç][uú]car|caf[eé]|farinha|sal\b|bolacha|biscoito|[oó]leo|azeite"),
    ("dry", r"cesta|alimento|lentilha|enlatad|macarr|polenta|molho"),
)  # fmt: skip
_CATEGORY_BY_SUPPLY = {
    "Alimentos e Água": "dry",
    "Higiene Pessoal": "hygiene",
    "Vestuário": "clothing",
    "Cuidados com Animais": "pet",
    "Material de Limpeza": "cleaning",
    "Acomodações e Descanso": "bedding",
    "Itens Descartáveis": "packaging",
    "Proteção para crianças": "baby",
}
_CATEGORY_OF_FOOD: tuple[tuple[str, str], ...] = (
    ("dry", r"bisc|choc|palha|salg|\bmac\b|macarr|pascoa|molho|doce|cookie|\berva|bombom|wafer|cocada|pesto"),
    ("dairy", r"iog|activia|leite|lact|queijo|qjo|requeij|marg|mant|coalhada|cream|creme de leite|danone"),
    ("meat_fish", r"\bcarne|frango|peixe|atum|sardinha|salsich|ling|presunto|mortadela|ovos? |hamb"),
    ("beverage", r"suco|nect|n[eé]ctar|refri|agua|\bcha\b|\bmate|\bbeb|\bcoca\b|guarana|lipton|h2o|xarope"),
    ("bakery", r"\bp[aã]o|bread|bisnag|\bbolo\b|torrad|croissant|panetone|\bcuca"),
    ("produce", r"batata|alface|rucula|tomate|cebola|banana|polpa|fruta|salada|a[cç]ai|legume"),
    ("prepared", r"lasan|pizza|pronto|sopa|risoto|marmita|congel"),
)
_CATEGORY_OF_CLASS = {"cosmeticos": "hygiene", "matlimpeza": "cleaning"}
_BABY = re.compile(r"beb[eê]|baby|mamadeira|chupeta|fralda|nenen", re.IGNORECASE)

_UNIT_OF = {"produce": "g", "meat_fish": "g", "dry": "g", "beverage": "ml", "prepared": "portion"}
_FOOD = {"prepared", "produce", "dairy", "bakery", "meat_fish", "dry", "beverage"}
_CHILLED = {"dairy", "meat_fish"}
BULK = 1000  # grams in a kilogram, millilitres in a litre


@dataclass(frozen=True)
class Municipality:
    """A municipality of Rio Grande do Sul, at its seat."""

    ibge_code: str
    name: str
    lat: float
    lon: float
    timezone: str


@dataclass(frozen=True)
class Need:
    """One thing a shelter asked for."""

    name: str
    category: str
    urgency: str
    unit: str
    quantity: int


@dataclass(frozen=True)
class Shelter:
    """A shelter of May 2024 and what it asked for."""

    key: str
    name: str
    address: str
    municipality: Municipality
    lat: float
    lon: float
    pets_only: bool
    needs: tuple[Need, ...] = field(default=())


@dataclass(frozen=True)
class Product:
    """A product text of an invoice, with the category its words tell."""

    name: str
    category: str

    @property
    def kind(self) -> str:
        """Food or aid."""
        return "food" if self.category in _FOOD else "aid"

    @property
    def unit(self) -> str:
        """What it is counted in."""
        return unit_of(self.category)

    @property
    def storage(self) -> str:
        """How it is kept."""
        return "chilled" if self.category in _CHILLED else "ambient"


def unit_of(category: str) -> str:
    """Grams, millilitres, portions or pieces."""
    return _UNIT_OF.get(category, "unit")


def number(text: str, low: int, high: int) -> int:
    """A number between two bounds that a text always gives."""
    return low + zlib.crc32(text.encode()) % (high - low + 1)


def quantity_of(category: str, text: str, low: int, high: int) -> int:
    """So many pieces or portions, kilograms or litres, in the category's base unit."""
    return number(text, low, high) * (BULK if unit_of(category) in ("g", "ml") else 1)


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """The straight line over ground; flat is right enough within a state."""
    north = math.radians(b[0] - a[0])
    east = math.radians(b[1] - a[1]) * math.cos(math.radians((a[0] + b[0]) / 2))
    return EARTH_KM * math.hypot(north, east)


def nearest(point: tuple[float, float], among: Iterable[Municipality]) -> Municipality:
    """The municipality whose seat is nearest."""
    return min(among, key=lambda one: distance_km(point, (one.lat, one.lon)))


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@lru_cache
def municipalities() -> tuple[Municipality, ...]:
    """All of Rio Grande do Sul, those near Porto Alegre first."""
    found = [
        Municipality(row["ibge_code"], row["name"], float(row["lat"]), float(row["lon"]), row["timezone"])
        for row in _rows("municipalities_rs.csv")
    ]
    return tuple(sorted(found, key=lambda one: distance_km(PORTO_ALEGRE, (one.lat, one.lon))))


def need_category(name: str, supply_category: str) -> str:
    """Our word for what was asked for."""
    for category, pattern in _CATEGORY_BY_NAME:
        if re.search(pattern, name, re.IGNORECASE):
            return category
    return _CATEGORY_BY_SUPPLY.get(supply_category, "other")


def product_category(text: str, label: str) -> str:
    """Our word for a product by its text and its label."""
    if label != "alimentos":
        return "baby" if _BABY.search(text) else _CATEGORY_OF_CLASS[label]
    return next((one for one, pattern in _CATEGORY_OF_FOOD if re.search(pattern, text, re.IGNORECASE)), "dry")


def _need(row: dict[str, str]) -> Need:
    name = " ".join(row["supply_name"].split())[:120]
    category = need_category(name, row["supply_category"])
    unit = unit_of(category)
    given = int(float(row["quantity"])) if row["quantity"] else 0
    seed = f"{row['shelter_id']}:{name}"
    quantity = min(given, 500) * (BULK if unit in ("g", "ml") else 1) or quantity_of(category, seed, 5, 60)
    return Need(name, category, URGENCY_OF[row["priority"]], unit, quantity)


@lru_cache
def shelters() -> tuple[Shelter, ...]:
    """Every shelter with its needs; those whose name was withheld are numbered."""
    needs: dict[str, list[Need]] = defaultdict(list)
    for row in _rows("needs.csv"):
        needs[row["shelter_id"]].append(_need(row))
    found, unnamed = [], 0
    for row in _rows("shelters.csv"):
        unnamed += not row["name"]
        point = float(row["lat"]), float(row["lon"])
        municipality = nearest(point, municipalities())
        found.append(
            Shelter(
                key=row["shelter_id"],
                name=row["name"] or f"Abrigo {unnamed}",
                address=row["address"] or f"{municipality.name}, RS",
                municipality=municipality,
                lat=point[0],
                lon=point[1],
                pets_only=row["pets_only"] == "1",
                needs=tuple(needs[row["shelter_id"]]),
            )
        )
    return tuple(found)


@lru_cache
def products() -> tuple[Product, ...]:
    """Every product that is offered or asked for, the classes mixed."""
    return tuple(sorted(_products("products.csv"), key=lambda one: zlib.crc32(one.name.encode())))


@lru_cache
def catalogue() -> tuple[Product, ...]:
    """Every product of a shop."""
    return tuple(_products("catalogue.csv"))


def _products(file: str) -> Iterator[Product]:
    """The product texts of a file, each with its category."""
    for row in _rows(file):
        yield Product(row["description"], product_category(row["description"], row["category"]))


def grouped(items: Sequence[Shelter], *, size_max: int) -> list[list[Shelter]]:
    """Shelters of one municipality together, in groups of a size one person can look after."""
    by_city: dict[str, list[Shelter]] = defaultdict(list)
    for shelter in items:
        by_city[shelter.municipality.ibge_code].append(shelter)
    alone = [one for group in by_city.values() if len(group) < size_max // 3 for one in group]
    large = [group for group in by_city.values() if len(group) >= size_max // 3]
    return [
        group[start : start + size_max]
        for group in [*large, *([alone] if alone else [])]
        for start in range(0, len(group), size_max)
    ]


def cnpj(seed: str, *, alphanumeric: bool) -> str:
    """A valid CNPJ of nobody we know: twelve characters from the seed, and the check digits that fit them."""
    alphabet = BASE36 if alphanumeric else BASE36[:10]
    digest = zlib.crc32(seed.encode()) << 32 | zlib.crc32(seed[::-1].encode() + b"cnpj")
    body = ""
    for _ in range(8):
        digest, index = divmod(digest, len(alphabet))
        body += alphabet[index]
    if alphanumeric and body.isdigit():
        body = f"D{body[1:]}"
    body += "0001"
    return next(whole for n in range(100) if cnpj_is_valid(whole := f"{body}{n:02d}"))
