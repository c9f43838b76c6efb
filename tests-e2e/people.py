"""Everybody in the journeys, made through the public API as they would make themselves."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import random
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx
from standardwebhooks import Webhook

Json = dict[str, Any]
REPOSITORY = Path(__file__).resolve().parents[1]
QUOTA_TRIES = 30  # ten pollers share one person's quota while services are away


async def eventually(check: Callable[[], Any], *, timeout_s: float = 20.0) -> Any:
    """Call `check` until it neither raises AssertionError nor returns a false value."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            result = check()
            result = await result if inspect.isawaitable(result) else result
            assert result or result is None, f"still {result!r} after {timeout_s} s"
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            return result
        await asyncio.sleep(0.1)


async def reconciled(settings: Mapping[str, str]) -> str:
    """Every event against every effect of the real services: it must balance; returns what was found, in a line."""
    command, told = [REPOSITORY / "scripts" / "reconcile"], {**os.environ, "VAJ_HOME": settings["VAJ_HOME"]}
    done = await asyncio.to_thread(subprocess.run, command, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout).strip().splitlines()[-1].strip()


@dataclass(frozen=True)
class Actor:
    """Somebody signed in, or a partner's key."""

    client: httpx.AsyncClient
    headers: Mapping[str, str]
    id: str = ""
    email: str = ""

    async def call(self, method: str, path: str, body: Json | None = None, **headers: str) -> httpx.Response:
        """One request; a quota is respected as a client should, a few times."""
        for _ in range(QUOTA_TRIES):
            answer = await self.client.request(method, path, json=body, headers={**self.headers, **headers})
            if answer.status_code != 429:
                break
            await asyncio.sleep(float(answer.headers["retry-after"]))
        return answer

    async def get(self, path: str) -> Json:
        """A GET that must work."""
        return _good(await self.call("GET", path))

    async def post(self, path: str, body: Json | None = None) -> Json:
        """A POST that must work."""
        return _good(await self.call("POST", path, {} if body is None else body))

    async def post_soon(self, path: str, body: Json | None = None, *, timeout_s: float = 10.0) -> Json:
        """A POST that must work as soon as what it needs of other services has arrived."""

        async def attempt() -> Json:
            return await self.post(path, body)

        found: Json = await eventually(attempt, timeout_s=timeout_s)
        return found


def _good(answer: httpx.Response) -> Json:
    assert answer.is_success, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    found: Json = answer.json() if answer.content else {}
    return found


async def login(client: httpx.AsyncClient, email: str, password: str) -> Actor:
    """Sign in."""
    answer = _good(await client.post("/v1/auth/login", json={"email": email, "password": password}))
    actor = Actor(client, {"Authorization": f"Bearer {answer['access_token']}"})
    me = await actor.get("/v1/me")
    return Actor(client, actor.headers, me["id"], email)


def a_cnpj() -> str:
    """A random valid CNPJ, letters included."""
    body = "".join(random.choices("0123456789ABCDEFGHJKLMNPRSTUVWXYZ", k=12))
    for weights in ([5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2], [6, 5, 4, 3, 2, 9, 8, 7, 6, 5, 4, 3, 2]):
        rest = sum((ord(c) - 48) * w for c, w in zip(body, weights, strict=True)) % 11
        body += str(0 if rest < 2 else 11 - rest)
    return body


@dataclass
class World:
    """Makes people and organizations."""

    client: httpx.AsyncClient
    admin: Actor

    async def person(self, locale: str = "pt-BR") -> Actor:
        """Somebody who signed up and in."""
        email, password = f"{secrets.token_hex(6)}@example.org", secrets.token_urlsafe(16)
        body = {"email": email, "password": password, "display_name": "Fulana", "locale": locale}
        _good(await self.client.post("/v1/users", json=body))
        return await login(self.client, email, password)

    async def organization(self, manager: Actor, *kinds: str, verified: bool = True) -> str:
        """An organization of this manager."""
        body = {"cnpj": a_cnpj(), "legal_name": "Casa Ltda", "trade_name": "Casa", "kinds": list(kinds)}
        organization_id: str = (await manager.post("/v1/organizations", body))["id"]
        if verified:
            await self.admin.post(f"/v1/organizations/{organization_id}/verify")
        return organization_id

    async def place(self, manager: Actor, organization_id: str, *roles: str) -> str:
        """A place in Porto Alegre."""
        body = {
            "organization_id": organization_id,
            "name": "Sede",
            "roles": list(roles),
            "address": "Rua dos Andradas, 1",
            "ibge_city": "4314902",
            "lat": -30.03,
            "lon": -51.23,
            "tz": "America/Sao_Paulo",
            "accepts": [],
        }
        place_id: str = (await manager.post("/v1/places", body))["id"]
        return place_id

    async def volunteer(self) -> Actor:
        """Somebody with a car."""
        person = await self.person()
        profile = {"vehicle": "car", "capacity_g": 200_000, "lat": -30.03, "lon": -51.23, "radius_m": 20_000}
        _good(await person.call("PUT", "/v1/me/volunteer-profile", profile))
        return person

    async def partner(self, manager: Actor, organization_id: str, **changes: Any) -> tuple[Actor, str]:
        """An API key with every scope, and its id."""
        scopes = [
            f"{noun}:{verb}"
            for noun in ("batches", "deliveries", "requests", "catalogue")
            for verb in ("read", "write")
        ]
        body = {
            "organization_id": organization_id,
            "name": "erp",
            "scopes": [*scopes, "webhooks:manage", "analytics:read"],
            "env": "live",
            **changes,
        }
        key = await manager.post("/v1/api-keys", body)
        return Actor(self.client, {"X-API-Key": key["key"]}, key["id"]), key["id"]


@dataclass
class Town:
    """One of each."""

    world: World
    provider: Actor
    shelter: Actor
    volunteer: Actor
    partner: Actor
    provider_id: str
    shelter_id: str
    pickup_place: str
    receiving_place: str

    async def batch(self, quantity: int = 40) -> Json:
        """A ready batch, announced by the partner's system and offered by a person."""
        batch = await self.partner.post_soon("/v1/batches", a_batch(self.pickup_place, quantity))
        return await self.provider.post_soon(f"/v1/batches/{batch['id']}/ready")

    async def delivery(self, batch: Json, quantity: int) -> Json:
        """A delivery to the shelter, open for volunteers."""
        body = {"receiving_place_id": self.receiving_place, "lines": [{"batch_id": batch["id"], "quantity": quantity}]}
        planned = await self.shelter.post_soon("/v1/deliveries", body)

        async def opened() -> Json:
            found = await self.shelter.get(f"/v1/deliveries/{planned['id']}")
            assert found["status"] == "open", found
            return found

        found: Json = await eventually(opened)
        return found

    async def carry(self, delivery: Json, volunteer: Actor | None = None) -> Json:
        """Claim, fetch and bring everything, with a code at both ends."""
        carrier, path = volunteer or self.volunteer, f"/v1/deliveries/{delivery['id']}"
        await carrier.post_soon(f"{path}/claim")
        lines = [(line["line_id"], line["planned"]) for line in delivery["lines"]]
        code = (await carrier.get(f"{path}/code?stage=pickup"))["code"]
        picked = [{"line_id": line_id, "picked": quantity} for line_id, quantity in lines]
        await self.provider.post(f"{path}/pickup", {"code": code, "lines": picked})
        code = (await self.shelter.get(f"{path}/code?stage=dropoff"))["code"]
        dropped = [{"line_id": line_id, "delivered": quantity, "rejected": 0} for line_id, quantity in lines]
        return await carrier.post(f"{path}/dropoff", {"code": code, "lines": dropped})


def a_batch(place_id: str, quantity: int = 40) -> Json:
    """Portions of soup for tomorrow."""
    now = datetime.now(UTC)
    return {
        "place_id": place_id,
        "kind": "food",
        "product": {"name": "Sopa de legumes", "category": "prepared"},
        "unit": "portion",
        "quantity": quantity,
        "storage": "ambient",
        "use_by_at": (now + timedelta(days=1)).isoformat(),
        "pickup_window": {"from": now.isoformat(), "to": (now + timedelta(hours=4)).isoformat()},
    }


async def found_town(world: World) -> Town:
    """Make one of each."""
    provider, shelter, volunteer = await world.person("en"), await world.person(), await world.volunteer()
    provider_id = await world.organization(provider, "provider", "partner")
    shelter_id = await world.organization(shelter, "receiver")
    partner, _ = await world.partner(provider, provider_id)
    return Town(
        world,
        provider,
        shelter,
        volunteer,
        partner,
        provider_id,
        shelter_id,
        await world.place(provider, provider_id, "pickup"),
        await world.place(shelter, shelter_id, "receiving"),
    )


@dataclass
class Receiver:
    """A webhook receiver on loopback: keeps what verifies, counts what does not."""

    secret: str = ""
    events: list[Json] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    unverified: int = 0

    def __enter__(self) -> Self:
        keep = self._keep

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                keep(dict(self.headers), body)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _keep(self, headers: dict[str, str], body: bytes) -> None:
        try:
            Webhook(self.secret).verify(body, {name.lower(): value for name, value in headers.items()})
        except Exception:
            self.unverified += 1
            return
        self.ids.append({name.lower(): value for name, value in headers.items()}["webhook-id"])
        self.events.append(json.loads(body))

    def of(self, event_type: str, subject: str) -> list[Json]:
        """What came of one type about one thing."""
        return [event for event in self.events if (event["type"], event["subject"]) == (event_type, subject)]
