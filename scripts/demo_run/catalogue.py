"""The partner's catalogue: whole as its spreadsheet has it, then what changed, then one that lacks too much."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

from scripts.demo_run import data
from scripts.demo_run.client import Gateway, Json, Key
from scripts.demo_run.hands import eventually
from scripts.demo_run.people import NEW_TENANT, Cast
from scripts.demo_run.progress import Stages, Step

CHARSET = "windows-1252"
COLUMNS = ["Código", "Código de Barras", "Descrição", "Categoria", "Preço", "Estoque"]
SPOILED = "7,89102E+12"  # what a spreadsheet makes of a bar code
SPOILED_ROWS = 3
DELTA_EVERY = 20
LACKS_EVERY = 3
PAGE = 200  # the most that a page has
STRANGERS = (*NEW_TENANT, "foreign-cnpj")  # until the service has heard of the organization
WITHIN_S = 120.0

Product = tuple[str, str, int, int]  # name, category, price in centavos, stock
Catalogue = dict[str, Product]  # by the shop's own code


@dataclass(frozen=True)
class Loaded:
    """What became of it."""

    products: int
    changed: int
    rejected: int
    missing: int
    rows_per_s: float


async def load(gateway: Gateway, stages: Stages, cast: Cast, *, run: int) -> Loaded:
    """FULL, DELTA, and a FULL that waits and is called off; raises AssertionError unless every product is as sent."""
    key = cast.catalogue_key
    cnpj = (await gateway.get(cast.partner.manager, "/v1/organizations/{}", cast.partner.id))["cnpj"]
    whole = _whole(run)

    for left in await _waiting(gateway, key, cnpj):  # of a run that was cut off
        await _call_off(gateway, key, left)
    full = await _send(gateway, key, cnpj, "FULL", whole, spoiled=SPOILED_ROWS)
    async with stages.stage("catalogue, all of it: rows", len(whole) + SPOILED_ROWS) as step:
        full = await _reaches(gateway, key, full, "applied", step)
    rejects = (await gateway.send(key, "GET", "/v1/catalogue-loads/{}/rejects", full["id"])).text.splitlines()

    few = {code: _dearer(whole[code]) for code in list(whole)[::DELTA_EVERY]}
    delta = await _send(gateway, key, cnpj, "DELTA", few)
    async with stages.stage("catalogue, what changed: rows", len(few)) as step:
        delta = await _reaches(gateway, key, delta, "applied", step)

    less = {code: product for number, (code, product) in enumerate(whole.items()) if number % LACKS_EVERY}
    waiting = await _reaches(gateway, key, await _send(gateway, key, cnpj, "FULL", less), "awaiting_confirmation")
    await _call_off(gateway, key, waiting)

    async with stages.stage("catalogue, compared: products", len(whole)) as step:
        found = await _found(gateway, key, cnpj, step)
    assert found == whole | few, "the catalogue is not what was sent"
    assert len(rejects) == full["rows"]["rejected"] == SPOILED_ROWS, "a row is neither a product nor a reject"
    rows_per_s = full["rows"]["total"] / full["result"]["duration_s"]
    return Loaded(len(found), delta["result"]["updated"], len(rejects), waiting["survey"]["missing"], rows_per_s)


def _whole(run: int) -> Catalogue:
    """Real names; a price that follows from the name and a stock that is another in every run."""
    return {
        f"DF{number:05d}": (
            product.name,
            product.category,
            data.number(f"{product.name}:price", 199, 4_999),
            data.number(f"{product.name}:{run}", 0, 240),
        )
        for number, product in enumerate(data.catalogue(), 1)
    }


def _dearer(product: Product) -> Product:
    name, category, cents, stock = product
    return name, category, cents + 10, stock


def _spreadsheet(rows: Catalogue, *, spoiled: int) -> bytes:
    """As it is saved in Brazil: semicolons, decimal commas, Windows-1252; the last rows with spoiled bar codes."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";")
    writer.writerow(COLUMNS)
    for code, (name, category, cents, stock) in rows.items():
        writer.writerow([code, "", name, category, f"{cents // 100},{cents % 100:02d}", stock])
    for number in range(spoiled):
        writer.writerow([f"XX{number}", SPOILED, "Código estragado", "dry", "1,00", 1])
    return text.getvalue().encode(CHARSET)


async def _send(gateway: Gateway, key: Key, cnpj: str, mode: str, rows: Catalogue, *, spoiled: int = 0) -> Json:
    headers = {"X-Load-Type": mode, "X-CNPJ": cnpj, "Content-Type": f"text/csv; charset={CHARSET}"}
    body = _spreadsheet(rows, spoiled=spoiled)
    answer = await gateway.send(key, "POST", "/v1/catalogue-loads", content=body, headers=headers, patience=STRANGERS)
    taken: Json = answer.json()
    return taken


async def _reaches(gateway: Gateway, key: Key, load: Json, status: str, step: Step | None = None) -> Json:
    """The load once it is there; `step` hears of its progress on the way."""
    shown = 0

    async def look() -> Json | None:
        nonlocal shown
        now: Json = await gateway.get(key, "/v1/catalogue-loads/{}", load["id"])
        if step is not None:
            step(now["rows"]["processed"] - shown)
        shown = now["rows"]["processed"]
        return now if now["status"] == status else None

    return await eventually(f"load {load['id']} {status}", look, within_s=WITHIN_S)


async def _waiting(gateway: Gateway, key: Key, cnpj: str) -> list[Json]:
    """Loads of the company that wait for a yes."""
    asked: Json = {"cnpj": cnpj, "status": "awaiting_confirmation"}
    page = await gateway.get(key, "/v1/catalogue-loads", patience=STRANGERS, **asked)
    loads: list[Json] = page["items"]
    return loads


async def _call_off(gateway: Gateway, key: Key, load: Json) -> None:
    await gateway.post(key, "/v1/catalogue-loads/{}/cancel", load["id"], json={"reason": "Planilha incompleta"})


async def _found(gateway: Gateway, key: Key, cnpj: str, step: Step) -> Catalogue:
    """Every active product, page by page."""
    found: Catalogue = {}
    asked: Json | None = {"cnpj": cnpj, "limit": PAGE}
    while asked:
        page = await gateway.get(key, "/v1/products", **asked)
        for one in page["items"]:
            found[one["sku"]] = (one["name"], one["category"], one["price_cents"], one["stock"])
        step(len(page["items"]))
        asked = asked | {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    return found
