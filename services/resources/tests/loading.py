"""What partners send and see, and what must come of it by a computation that knows nothing of the service."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from chassis.testing import Callers, eventually
from chassis.testing.callers import Caller
from contracts.values import cnpj_is_valid, gtin_is_valid

NDJSON = "application/x-ndjson"
_numbers = itertools.count(random.randrange(10**7))  # quotas of an earlier run are none of this one's
Row = dict[str, Any]


def a_cnpj() -> str:
    """A company that no other test knows."""
    body = f"{next(_numbers):08d}0001"
    return next(cnpj for n in range(100) if cnpj_is_valid(cnpj := f"{body}{n:02d}"))


def a_gtin(number: int) -> str:
    """The GTIN-13 of a number."""
    body = f"789{number:09d}"
    return next(gtin for n in range(10) if gtin_is_valid(gtin := f"{body}{n}"))


def a_row(number: int, **changed: Any) -> Row:
    """A product as partners write it."""
    row = {
        "gtin": a_gtin(number),
        "name": f"Arroz nº {number} \\ Pão",
        "category": ("dry", "beverage", "medicine", "hygiene")[number % 4],
        "price_cents": 100 + number,
        "stock": number % 50,
    }
    return row | changed


def rows(count: int, *, first: int = 1, **changed: Any) -> list[Row]:
    """Products one after the other."""
    return [a_row(number, **changed) for number in range(first, first + count)]


def ndjson(lines: Iterable[Row]) -> bytes:
    """A line each."""
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


def as_csv(lines: Sequence[Row]) -> bytes:
    """As a Brazilian spreadsheet writes it: semicolons, decimal commas, Windows-1252."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";")
    writer.writerow(["Código de Barras", "Descrição", "Preço", "Estoque"])
    for line in lines:
        reais = f"{line['price_cents'] // 100},{line['price_cents'] % 100:02d}"
        writer.writerow([line["gtin"], line["name"], reais, line["stock"]])
    return text.getvalue().encode("cp1252")


@dataclass
class Expected:
    """A company's products by a fold over what was sent: the last row of a key counts, a FULL ends what it lacks."""

    products: dict[str, Row] = field(default_factory=dict)
    active: set[str] = field(default_factory=set)

    def load(self, sent: Sequence[Row], *, full: bool) -> dict[str, int]:
        """What a load does: inserted, updated, unchanged, deactivated."""
        last = {row.get("gtin") or row["sku"]: row for row in sent}
        counts = dict.fromkeys(("inserted", "updated", "unchanged", "deactivated"), 0)
        for key, row in last.items():
            same = key in self.active and self.products[key] == row
            counts["unchanged" if same else "updated" if key in self.products else "inserted"] += 1
        self.products |= last
        gone = self.active - set(last) if full else set()
        counts["deactivated"] = len(gone)
        self.active = (self.active | set(last)) - gone
        return counts


@dataclass
class Partner:
    """A chain with a key of its own and one company."""

    client: httpx.AsyncClient
    caller: Caller
    cnpj: str

    async def send(
        self, body: bytes | AsyncIterator[bytes], mode: str = "FULL", *, kind: str = NDJSON, **headers: str
    ) -> httpx.Response:
        """POST a payload."""
        told = {"X-Load-Type": mode, "X-CNPJ": self.cnpj, "Content-Type": kind, **self.caller.headers, **headers}
        return await self.client.post("/v1/catalogue-loads", content=body, headers=told)

    async def get(self, path: str, **parameters: Any) -> httpx.Response:
        """GET."""
        return await self.client.get(path, params=parameters, headers=self.caller.headers)

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        """POST a command."""
        return await self.client.post(path, json=body, headers=self.caller.headers)

    async def reaches(self, answer: httpx.Response, *statuses: str, within_s: float = 60) -> Row:
        """The load once it is in one of these states."""
        assert answer.status_code == 202, answer.text
        return await self._until(answer.headers["Location"], *statuses, within_s=within_s)

    async def decides(self, load_id: str, command: str, *, until: str) -> Row:
        """Confirm or retry a load, and wait for what comes of it."""
        where = f"/v1/catalogue-loads/{load_id}"
        answer = await self.post(f"{where}/{command}")
        assert answer.status_code == 200, answer.text
        return await self._until(where, until)

    async def _until(self, where: str, *statuses: str, within_s: float = 60) -> Row:
        async def now() -> Row | bool:
            found: Row = (await self.get(where)).json()
            return found if found["status"] in statuses else False

        return await eventually(now, timeout_s=within_s)  # type: ignore[no-any-return]

    async def load(self, lines: Sequence[Row], mode: str = "FULL", *, until: str = "applied") -> Row:
        """Send rows and wait for what comes of them."""
        return await self.reaches(await self.send(ndjson(lines), mode), until)

    async def products(self, **parameters: Any) -> list[Row]:
        """Every product, over all pages."""
        found: list[Row] = []
        cursor: dict[str, str] = {}
        while True:
            answer = await self.get("/v1/products", cnpj=self.cnpj, limit=200, **parameters, **cursor)
            assert answer.status_code == 200, answer.text
            found += answer.json()["items"]
            if answer.json()["next_cursor"] is None:
                return found
            cursor = {"cursor": answer.json()["next_cursor"]}

    async def has(self, expected: Expected) -> None:
        """The products are as computed, active and inactive ones."""
        for status, keys in (("active", expected.active), ("inactive", set(expected.products) - expected.active)):
            found = {each["gtin"] or each["sku"]: each for each in await self.products(status=status)}
            assert set(found) == keys
            for key, product in found.items():
                wanted = expected.products[key]
                assert {name: product[name] for name in wanted} == wanted


async def a_partner(client: httpx.AsyncClient, callers: Callers) -> Partner:
    """A verified organization with a key for a company of its own."""
    cnpj = a_cnpj()
    organization_id = await callers.organization(kinds=["partner"])
    caller = await callers.partner(organization_id, cnpjs=[cnpj])
    return Partner(client, caller, cnpj)


def packed(body: bytes) -> bytes:
    """Gzip."""
    return gzip.compress(body)
