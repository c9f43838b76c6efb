"""Catalogues of real products through the gateway: FULL, DELTA, a FULL that lacks much; the table as a fold computes it."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from contracts.values import cnpj_is_valid

people = importlib.import_module("people")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NAME_MAX, BRAND_MAX = 200, 100
_OURS = "SELECT gtin, name, brand, price_cents, stock, active FROM products WHERE cnpj = $1"

Product = tuple[str, str | None, int, int]  # name, brand, price in centavos, stock
Catalogue = dict[str, Product]
Packed = tuple[bytes, dict[str, str]]


def real(file: str) -> Catalogue:
    """Every product of the file, with a price and a stock of our own, which follow from its code."""
    with gzip.open(DATA / file, "rt", encoding="utf-8", newline="") as lines:
        return {
            row["gtin"]: (row["name"], row["brand"] or None, 100 + int(row["gtin"][-6:-1]), int(row["gtin"][-3:]))
            for row in csv.DictReader(lines)
        }


def as_spreadsheet(rows: Catalogue) -> Packed:
    """As a Brazilian spreadsheet saves it: a byte order mark, semicolons, decimal commas."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";")
    writer.writerow(["Código de Barras", "Descrição", "Marca", "Preço", "Estoque"])
    for gtin, (name, brand, cents, stock) in rows.items():
        writer.writerow([gtin, name, brand or "", f"{cents // 100},{cents % 100:02d}", stock])
    return text.getvalue().encode("utf-8-sig"), {"Content-Type": "text/csv"}


def as_lines(rows: Catalogue) -> Packed:
    """A compressed line of JSON each."""
    lines = (
        json.dumps({"gtin": gtin, "name": name, "brand": brand, "price_cents": cents, "stock": stock})
        for gtin, (name, brand, cents, stock) in rows.items()
    )
    packed = gzip.compress("\n".join(lines).encode(), compresslevel=1)
    return packed, {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}


def fits(product: Product) -> bool:
    """Neither text is longer than a catalogue takes."""
    return len(product[0].strip()) <= NAME_MAX and len(product[1] or "") <= BRAND_MAX


def branch_of(cnpj: str, number: int) -> str:
    """Another company of the same root."""
    return next(found for n in range(100) if cnpj_is_valid(found := f"{cnpj[:8]}{number:04d}{n:02d}"))


def dearer(product: Product) -> Product:
    """A centavo more."""
    return product[0], product[1], product[2] + 1, product[3]


def differing(rows: Catalogue, before: Catalogue) -> int:
    """How many of these are not as they were."""
    return sum(before.get(gtin) != product for gtin, product in rows.items())


@pytest.mark.parametrize(
    ("file", "branch", "form"),
    [
        ("products_gtin_br.csv.gz", 2, as_spreadsheet),
        ("products_gtin_food_world.csv.gz", 3, as_lines),
    ],
    ids=["brazil", "world"],
)
async def test_a_real_catalogue(
    town: Any,
    public: httpx.AsyncClient,
    settings: dict[str, str],
    file: str,
    branch: int,
    form: Callable[[Catalogue], Packed],
) -> None:
    """Counts and products are those of a fold in Python over the same rows, and no others are deactivated."""
    if not (DATA / file).is_file():
        pytest.skip(f"../shared/data/{file} is absent")
    own = (await town.provider.get(f"/v1/organizations/{town.provider_id}"))["cnpj"]
    shop = Shop(town.partner, public, settings, branch_of(own, branch), form)
    sent = real(file)
    whole = {gtin: product for gtin, product in sent.items() if fits(product)}

    first = await shop.load(sent, "FULL", "applied")
    assert first["result"] | {"duration_s": 0} == shop.result(inserted=len(whole))
    assert first["rows"]["rejected"] == len(sent) - len(whole)
    await shop.has(whole, gone=())

    few = {gtin: dearer(whole[gtin]) for gtin in list(whole)[::20]}
    delta = await shop.load(few, "DELTA", "applied")
    assert delta["result"] | {"duration_s": 0} == shop.result(updated=len(few))
    now = whole | few
    await shop.has(now, gone=())

    less = {gtin: product for number, (gtin, product) in enumerate(whole.items()) if number % 10 >= 3}
    waiting = await shop.load(less, "FULL", "awaiting_confirmation")
    assert waiting["survey"]["missing"] == len(whole) - len(less)
    await shop.has(now, gone=())

    await town.partner.post(f"/v1/catalogue-loads/{waiting['id']}/confirm")
    last = await shop.reaches(waiting["id"], "applied")
    changed = differing(less, now)
    assert last["result"] | {"duration_s": 0} == shop.result(
        updated=changed, unchanged=len(less) - changed, deactivated=len(whole) - len(less)
    )
    await shop.has(now | less, gone=set(whole) - set(less))


class Shop:
    """A company and its key; `form` is how it writes its rows."""

    def __init__(
        self,
        partner: Any,
        client: httpx.AsyncClient,
        settings: dict[str, str],
        cnpj: str,
        form: Callable[[Catalogue], Packed],
    ) -> None:
        self._partner, self._client, self._settings, self._cnpj, self._form = partner, client, settings, cnpj, form

    async def load(self, rows: Catalogue, mode: str, until: str) -> Any:
        """Send these, and wait for what comes of them."""
        body, kind = self._form(rows)
        headers = {"X-Load-Type": mode, "X-CNPJ": self._cnpj, **kind, **self._partner.headers}

        async def taken() -> str:  # once the service has heard of the key
            answer = await self._client.post("/v1/catalogue-loads", content=body, headers=headers, timeout=120)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["id"])

        return await self.reaches(await people.eventually(taken), until)

    async def reaches(self, load_id: str, status: str) -> Any:
        """The load once it is there."""

        async def found() -> Any:
            load = await self._partner.get(f"/v1/catalogue-loads/{load_id}")
            return load if load["status"] == status else False

        return await people.eventually(found, timeout_s=180)

    @staticmethod
    def result(**counts: int) -> dict[str, int]:
        """What a load says it did, its time aside."""
        zero = dict.fromkeys(("inserted", "updated", "unchanged", "deactivated", "failed_chunks", "duration_s"), 0)
        return zero | counts

    async def has(self, expected: Catalogue, *, gone: Iterable[str]) -> None:
        """The table holds exactly these, of which exactly `gone` are inactive."""
        connection = await asyncpg.connect(self._settings["VAJ_RESOURCES_DATABASE_URL"])
        try:
            rows = await connection.fetch(_OURS, self._cnpj)
        finally:
            await connection.close()
        found = {row["gtin"]: (row["name"], row["brand"], row["price_cents"], row["stock"]) for row in rows}
        assert len(rows) == len(found)
        assert found == expected
        assert {row["gtin"] for row in rows if not row["active"]} == set(gone)
