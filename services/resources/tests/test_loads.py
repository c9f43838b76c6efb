"""Catalogue loads from the first byte to products, over HTTP: what is sent is what there is, and nothing else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from chassis.testing import Callers, LiveService, Tap, eventually
from contracts.events import resources as public

from services.resources.tests.loading import (
    NDJSON,
    Expected,
    Partner,
    Row,
    a_cnpj,
    a_gtin,
    a_partner,
    a_row,
    as_csv,
    ndjson,
    packed,
    rows,
)


def done(load: Row) -> Row:
    """What a load did, without its time."""
    return {name: load["result"][name] for name in ("inserted", "updated", "unchanged", "deactivated")}


def payloads(environment: dict[str, str]) -> list[Path]:
    """Every payload in the object store, whole or in parts."""
    folder = Path(urlsplit(environment["VAJ_OBJECT_STORE_URL"]).path) / "payloads"
    return sorted(path for path in folder.rglob("*") if path.is_file())


# -- what becomes of rows ------------------------------------------------------------------------------------------------


async def test_a_load_becomes_products(partner: Partner, tap: Tap) -> None:
    """Rows become products, over many chunks; the load tells what it did, and so do its events."""
    expected, sent = Expected(), rows(47)

    load = await partner.load(sent)

    assert done(load) == expected.load(sent, full=True)
    assert load["rows"] == {"total": 47, "processed": 47, "accepted": 47, "duplicates": 0, "rejected": 0}
    assert (load["chunks"], load["progress"], load["eta_s"]) == ({"total": 5, "done": 5, "failed": 0}, 1.0, None)
    await partner.has(expected)
    applied = await tap.saw(public.CatalogueLoadApplied, UUID(load["id"]))
    assert (applied.event.inserted, applied.event.failed_chunks) == (47, 0)  # type: ignore[attr-defined]
    for kind in (public.CatalogueLoadReceived, public.CatalogueLoadReady):
        await tap.saw(kind, UUID(load["id"]))


async def test_unchanged_products_are_not_touched(partner: Partner) -> None:
    """A FULL that says what is there leaves each row as it was; one change changes one."""
    expected, sent = Expected(), rows(35)
    expected.load(sent, full=True)
    await partner.load(sent)
    before = {each["gtin"]: each["changed_at"] for each in await partner.products()}
    changed = [*sent[:-1], sent[-1] | {"price_cents": 1}]

    load = await partner.load(changed)

    assert done(load) == expected.load(changed, full=True) == {
        "inserted": 0, "updated": 1, "unchanged": 34, "deactivated": 0,
    }  # fmt: skip
    after = {each["gtin"]: each["changed_at"] for each in await partner.products()}
    assert [gtin for gtin in before if before[gtin] != after[gtin]] == [sent[-1]["gtin"]]


async def test_of_duplicates_the_last_counts(partner: Partner) -> None:
    """A key in one chunk twice and in three chunks: the last row is the product, whichever chunk is applied last.

    Also where the product was already as the last row says, so that its chunk has nothing to change.
    """
    expected = Expected()
    first = [a_row(number, price_cents=500) for number in range(1, 6)]
    expected.load(first, full=True)
    await partner.load(first)
    sent = [a_row(1, price_cents=n) for n in range(1, 31)]  # three chunks of one key
    sent += [*rows(10, first=2), a_row(1, price_cents=500), *rows(4, first=12)]

    load = await partner.load(sent, "DELTA")

    assert done(load) == expected.load(sent, full=False)
    assert load["rows"]["duplicates"] == 30
    await partner.has(expected)


async def test_a_delta_never_deactivates(partner: Partner) -> None:
    """A DELTA changes what it names and nothing else."""
    expected, whole = Expected(), rows(30)
    expected.load(whole, full=True)
    await partner.load(whole)
    sent = [*rows(2, price_cents=7), a_row(99)]

    load = await partner.load(sent, "DELTA")

    assert done(load) == expected.load(sent, full=False)
    await partner.has(expected)


async def test_a_full_deactivates_what_it_lacks(partner: Partner) -> None:
    """What a FULL lacks becomes inactive, and comes back with a later one."""
    expected, whole = Expected(), rows(30)
    for sent in (whole, whole[:25], whole):
        load = await partner.load(sent)
        assert done(load) == expected.load(sent, full=True)
        await partner.has(expected)


async def test_a_great_loss_waits_for_a_yes(partner: Partner, tap: Tap) -> None:
    """A FULL that lacks more than a fifth waits; confirmed, it deactivates exactly what it lacks."""
    expected, whole = Expected(), rows(30)
    expected.load(whole, full=True)
    await partner.load(whole)

    waiting = await partner.load(whole[9:], until="awaiting_confirmation")

    assert waiting["survey"] == {"active": 30, "missing": 9}
    assert set(waiting["allowed"]) == {"confirm", "cancel"}
    await partner.has(expected)  # nothing of it is applied
    await tap.saw(public.CatalogueLoadAwaitingConfirmation, UUID(waiting["id"]))
    load = await partner.decides(waiting["id"], "confirm", until="applied")
    assert done(load) == expected.load(whole[9:], full=True)
    await partner.has(expected)


async def test_a_cancelled_load_changes_nothing(partner: Partner) -> None:
    """Cancelled while it waits, a load leaves all as it was, and the one behind it has its turn."""
    expected, whole = Expected(), rows(30)
    expected.load(whole, full=True)
    await partner.load(whole)
    waiting = await partner.load(whole[:10], until="awaiting_confirmation")
    behind = await partner.send(ndjson([a_row(77)]), "DELTA")

    answer = await partner.post(f"/v1/catalogue-loads/{waiting['id']}/cancel", {"reason": "o arquivo errado"})

    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert answer.json()["fault"]["reason"] == "o arquivo errado"
    expected.load([a_row(77)], full=False)
    await partner.reaches(behind, "applied")
    await partner.has(expected)
    again = await partner.post(f"/v1/catalogue-loads/{waiting['id']}/confirm")
    assert (again.status_code, again.json()["code"]) == (409, "invalid-transition")


async def test_a_full_of_nothing_waits(partner: Partner) -> None:
    """An empty FULL is applied only when a person says so."""
    waiting = await partner.load([], until="awaiting_confirmation")

    assert waiting["rows"]["total"] == 0
    load = await partner.decides(waiting["id"], "confirm", until="applied")
    assert done(load) == dict.fromkeys(("inserted", "updated", "unchanged", "deactivated"), 0)


async def test_rows_that_are_no_products_are_told(partner: Partner) -> None:
    """Each row that is refused is told with its number, pointer and reason; the others are applied."""
    sent = rows(25)
    sent[3]["gtin"] = "7891234567890"
    sent[14]["price_cents"] = -1
    sent[24]["stock"] = "many"

    load = await partner.load(sent)
    answer = await partner.get(f"/v1/catalogue-loads/{load['id']}/rejects")

    assert (load["rows"]["accepted"], load["rows"]["rejected"]) == (22, 3)
    assert answer.headers["content-type"] == NDJSON
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert [(each["row"], each["pointer"]) for each in found] == [(4, "/gtin"), (15, "/price_cents"), (25, "/stock")]
    assert set(found[0]) == {"row", "pointer", "code", "detail", "raw"}


# -- how they come in ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("form", ["ndjson", "array", "object", "csv"])
async def test_every_format(partner: Partner, form: str, gzipped: bool) -> None:
    """NDJSON, an array, an object and a Brazilian CSV, plain and gzipped, make the same products."""
    sent = [{name: value for name, value in row.items() if name != "category"} for row in rows(12)]
    kind, body = {
        "ndjson": (NDJSON, ndjson(sent)),
        "array": ("application/json", json.dumps(sent).encode()),
        "object": ("application/json", json.dumps({"products": sent}, indent=1).encode()),
        "csv": ("text/csv", as_csv(sent)),
    }[form]
    headers = {"Content-Encoding": "gzip"} if gzipped else {}

    answer = await partner.send(packed(body) if gzipped else body, kind=kind, **headers)

    await partner.reaches(answer, "applied")
    expected = Expected()
    expected.load(sent, full=True)
    await partner.has(expected)


async def test_the_same_payload_is_the_same_load(partner: Partner) -> None:
    """The newest payload of a mode once more is the same load; after another it is applied again."""
    a, b = rows(3), rows(3, price_cents=9)
    first = await partner.load(a)

    again = await partner.send(ndjson(a))

    assert again.json()["id"] == first["id"]
    await partner.load(b)
    third = await partner.load(a)
    assert third["id"] != first["id"]
    assert done(third)["updated"] == 3


async def test_an_idempotency_key_has_one_load(partner: Partner, environment: dict[str, str]) -> None:
    """One key and payload is one load and the first answer again; with another payload the key is refused."""
    body = ndjson(rows(3))
    first = await partner.send(body, **{"Idempotency-Key": "monday"})
    await partner.reaches(first, "applied")
    kept = payloads(environment)

    again = await partner.send(body, **{"Idempotency-Key": "monday"})
    other = await partner.send(ndjson(rows(4)), **{"Idempotency-Key": "monday"})

    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert payloads(environment) == kept  # of neither anything stayed


async def test_a_sequence_rises(partner: Partner) -> None:
    """A load whose sequence is not above the last one's is refused."""
    for sequence, status in (("5", 202), ("5", 409), ("4", 409), ("6", 202)):
        answer = await partner.send(
            ndjson([a_row(1, stock=len(sequence) + int(sequence) + status)]), "DELTA", **{"X-Load-Sequence": sequence}
        )
        assert answer.status_code == status, answer.text


async def test_loads_of_a_company_go_one_after_the_other(partner: Partner) -> None:
    """Many loads at once end as if each had come after the one before it was over: in the order of acceptance."""
    sent = {}
    for number in range(6):
        lines = rows(30, stock=number)
        answer = await partner.send(ndjson(lines), "FULL" if number % 2 else "DELTA")
        sent[answer.json()["id"]] = (lines, number % 2 == 1)
        assert answer.status_code == 202

    async def all_over() -> bool:
        items = (await partner.get("/v1/catalogue-loads", cnpj=partner.cnpj)).json()["items"]
        return {each["status"] for each in items} == {"applied"} and len(items) == 6

    await eventually(all_over, timeout_s=60)
    expected = Expected()
    for load_id in sorted(sent):
        expected.load(sent[load_id][0], full=sent[load_id][1])
    await partner.has(expected)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"X-CNPJ": "11222333000182"}, 422, "invalid"),
        ({"X-CNPJ": "11222333000181"}, 403, "foreign-cnpj"),
        ({"X-Load-Type": "ALL"}, 422, "invalid-input"),
        ({"X-Load-Sequence": "-1"}, 422, "invalid-input"),
        ({"Content-Type": "application/xml"}, 415, "unsupported-media-type"),
        ({"Content-Encoding": "br"}, 415, "unsupported-media-type"),
        ({"X-API-Key": "vaj_live_nonsense"}, 401, "unauthenticated"),
        ({"Idempotency-Key": "a key"}, 400, "idempotency-key-invalid"),
    ],
)
async def test_what_is_refused(
    partner: Partner, environment: dict[str, str], headers: dict[str, str], status: int, code: str
) -> None:
    """Wrong headers are refused before a byte is kept."""
    kept = payloads(environment)

    answer = await partner.send(ndjson(rows(1)), **headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert payloads(environment) == kept


async def test_who_may_load(partner: Partner, callers: Callers) -> None:
    """A key without the scope may not; another organization sees nothing of the load, nor of its products."""
    organization_id = await callers.organization()
    weak = await callers.partner(organization_id, scopes=["catalogue:read"], cnpjs=[partner.cnpj])
    other = await a_partner(partner.client, callers)
    load = await partner.load(rows(1))

    refused = await partner.send(ndjson(rows(1)), **weak.headers)
    unseen = await other.get(f"/v1/catalogue-loads/{load['id']}")
    not_theirs = await other.post(f"/v1/catalogue-loads/{load['id']}/retry")

    assert (refused.status_code, refused.json()["code"]) == (403, "missing-scope")
    assert (unseen.status_code, not_theirs.status_code) == (404, 404)
    assert (await other.get("/v1/products", cnpj=partner.cnpj)).json()["items"] == []


async def test_a_test_key_stays_in_its_sandbox(partner: Partner, callers: Callers) -> None:
    """It neither changes a company's catalogue nor sees it."""
    organization_id = await callers.organization(kinds=["partner"])
    caller = await callers.partner(organization_id, cnpjs=[partner.cnpj], env="test")
    await partner.load(rows(2))

    refused = await partner.send(ndjson(rows(1)), **caller.headers)
    seen = await partner.client.get("/v1/products", headers=caller.headers)

    assert (refused.status_code, refused.json()["code"]) == (403, "foreign-cnpj")
    assert seen.json()["items"] == []
    assert len(await partner.products()) == 2


async def test_the_older_name_answers_alike(partner: Partner) -> None:
    """The seed's route and headers make the same load; a key with one company need not name it."""
    headers = {
        "X-Inova-Api-Key": partner.caller.headers["X-API-Key"],
        "X-Inova-Load-Type": "FULL",
        "Content-Type": NDJSON,
    }

    answer = await partner.client.post("/v1/inovafarma/products", content=ndjson(rows(2)), headers=headers)

    load = await partner.reaches(answer, "applied")
    assert (load["cnpj"], load["result"]["inserted"]) == (partner.cnpj, 2)


@pytest.mark.parametrize(
    ("kind", "body", "headers", "reason"),
    [
        (NDJSON, ndjson(rows(15))[:-20], {}, "json-truncated"),
        ("application/json", b"[" + json.dumps(a_row(1)).encode(), {}, "json-truncated"),
        (NDJSON, packed(ndjson(rows(15)))[:-9], {"Content-Encoding": "gzip"}, "gzip-truncated"),
        (NDJSON, ndjson(rows(12)) + b"\xff\xfe\n", {}, "encoding"),
        (NDJSON, ndjson(rows(12)) + b'{"name":"' + b"x" * 70_000, {}, "row-too-long"),
        (NDJSON, packed(b"\n" * 40_000_000), {"Content-Encoding": "gzip"}, "compression-ratio"),
    ],
)
async def test_what_cannot_be_read_changes_nothing(
    partner: Partner, tap: Tap, kind: str, body: bytes, headers: dict[str, str], reason: str
) -> None:
    """A payload that cannot be read to its end is rejected as a whole, with the place."""
    load = await partner.reaches(await partner.send(body, kind=kind, **headers), "rejected")

    assert load["fault"]["reason"] == reason
    assert load["fault"]["row"] is not None
    assert await partner.products() == []
    failed = await tap.saw(public.CatalogueLoadFailed, UUID(load["id"]))
    assert failed.event.status == "rejected"  # type: ignore[attr-defined]


async def test_a_client_that_goes_away_leaves_nothing(
    partner: Partner, live: LiveService, environment: dict[str, str]
) -> None:
    """Half a body and a closed connection: no load, no payload, not even a part of one."""
    kept = payloads(environment)
    address = urlsplit(live.url)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    head = {
        "Host": "x", "Content-Type": NDJSON, "Content-Length": str(50_000_000), "X-Load-Type": "FULL",
        "X-CNPJ": partner.cnpj, **partner.caller.headers,
    }  # fmt: skip
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    writer.write(f"POST /v1/catalogue-loads HTTP/1.1\r\n{lines}\r\n".encode() + b" " * 12_000_000)
    await writer.drain()
    await eventually(lambda: len(payloads(environment)) > len(kept))

    writer.transport.abort()

    await eventually(lambda: payloads(environment) == kept)
    assert (await partner.get("/v1/catalogue-loads", cnpj=partner.cnpj)).json()["items"] == []


async def test_what_fails_can_be_tried_again(partner: Partner, environment: dict[str, str]) -> None:
    """A chunk that fails three times is a dead letter, the load ends with errors; retried, the rest of it is applied."""
    expected, whole = Expected(), rows(30)
    expected.load(whole, full=True)
    await partner.load(whole)
    sent = rows(23, price_cents=3)
    waiting = await partner.load(sent, until="awaiting_confirmation")
    folder = Path(urlsplit(environment["VAJ_OBJECT_STORE_URL"]).path) / "chunks" / waiting["id"]
    chunk = next(folder.glob("2-*"))
    hidden = chunk.rename(folder / "hidden")

    failed = await partner.decides(waiting["id"], "confirm", until="applied_with_errors")

    assert (failed["chunks"], failed["result"]["failed_chunks"]) == ({"total": 3, "done": 2, "failed": 1}, 1)
    assert (failed["result"]["updated"], failed["result"]["deactivated"], failed["allowed"]) == (13, 7, ["retry"])
    hidden.rename(chunk)
    load = await partner.decides(waiting["id"], "retry", until="applied")
    assert done(load) == expected.load(sent, full=True)
    await partner.has(expected)


async def test_an_overtaken_load_is_not_tried_again(partner: Partner, environment: dict[str, str]) -> None:
    """What failed of a load is older than what a newer one brought: it stays as it is."""
    whole = rows(12)
    await partner.load(whole)
    waiting = await partner.load(whole[:9], until="awaiting_confirmation")
    folder = Path(urlsplit(environment["VAJ_OBJECT_STORE_URL"]).path) / "chunks" / waiting["id"]
    next(folder.glob("1-*")).unlink()
    await partner.decides(waiting["id"], "confirm", until="applied_with_errors")
    await partner.load([a_row(1, stock=1000)], "DELTA")

    refused = await partner.post(f"/v1/catalogue-loads/{waiting['id']}/retry")

    assert (refused.status_code, refused.json()["code"]) == (409, "catalogue-load-superseded")


# -- what is found -------------------------------------------------------------------------------------------------------


async def test_products_are_found(partner: Partner) -> None:
    """By category, GTIN, words of the name whatever accents and case, price and stock; pages meet without gap or overlap."""
    sent = [
        a_row(1, name="Açúcar Cristal 1 kg", price_cents=499, stock=0, category="dry"),
        a_row(2, name="ACUCAR mascavo", price_cents=1299, stock=4, category="dry"),
        a_row(3, name="Água 100%", price_cents=250, stock=9, category="beverage"),
        a_row(4, name="Água 100 ml", price_cents=150, stock=9, category="beverage"),
    ]
    await partner.load(sent)

    async def found(**wanted: str | int) -> list[int]:
        gtins = [each["gtin"] for each in await partner.products(**wanted)]
        return [number for number in (1, 2, 3, 4) if a_gtin(number) in gtins]

    assert await found(q="acucar") == [1, 2]
    assert await found(q="AÇÚCAR cris") == [1]
    assert await found(q="100%") == [3]
    assert await found(category="beverage") == [3, 4]
    assert await found(gtin=a_gtin(2)) == [2]
    assert await found(price_min=250, price_max=499) == [1, 3]
    assert await found(in_stock="true") == [2, 3, 4]
    assert await found(in_stock="false") == [1]
    page = (await partner.get("/v1/products", cnpj=partner.cnpj, limit=3)).json()
    rest = (await partner.get("/v1/products", cnpj=partner.cnpj, limit=3, cursor=page["next_cursor"])).json()
    assert sorted(each["gtin"] for each in page["items"] + rest["items"]) == sorted(row["gtin"] for row in sent)
    wrong = await partner.get("/v1/products", price_min=2, price_max=1)
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "query:price_min")


async def test_loads_are_listed(partner: Partner) -> None:
    """The newest first, by mode and status."""
    full = await partner.load(rows(2))
    delta = await partner.load([a_row(1, stock=7)], "DELTA")

    async def listed(**wanted: str) -> list[str]:
        answer = await partner.get("/v1/catalogue-loads", **wanted)
        return [each["id"] for each in answer.json()["items"]]

    assert await listed() == [delta["id"], full["id"]]
    assert await listed(mode="FULL") == [full["id"]]
    assert await listed(status="rejected") == []
    assert await listed(cnpj=a_cnpj()) == []


async def test_a_company_has_a_quota(partner: Partner) -> None:
    """A hundred loads a minute and company, told in headers; beyond it is 429 and says when to come back."""
    body, accepted = ndjson([a_row(1)]), 0
    while (answer := await partner.send(body, "DELTA")).status_code == 202:
        accepted += 1
        assert answer.headers["RateLimit-Policy"] == '"default";q=100;w=60'
        assert accepted < 150  # some come back while these are sent

    assert accepted >= 100
    assert (answer.status_code, answer.json()["code"]) == (429, "quota-exceeded")
    assert int(answer.headers["Retry-After"]) >= 1
