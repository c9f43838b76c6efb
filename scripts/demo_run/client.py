"""Talks to the public gateway as an app does: tokens that are refreshed, quotas that are respected, safe repeats."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

import httpx

from scripts.demo_run.timings import Timings

AT_ONCE = 16  # requests in flight: a small crowd, not a load test
TIMEOUT_S = 30.0
REFRESH_BEFORE_S = 60.0  # an access token is renewed when it has less than this left
PATIENCE_S = 20.0  # what one service knows, the others know a moment later; waiting longer than this hides a fault
PAUSE_S = 0.1
QUOTA_WAIT_S_MAX = 90.0
REPEATS_MAX = 5  # of a request that got no answer at all
UNAVAILABLE = (502, 503, 504)
FINAL = (404, 409, 412)  # answers that are kept for the key they were given to
# A person or a key that another service has not heard of yet.
NOT_HEARD_OF = ("unauthenticated",)

Json = dict[str, Any]


class Refused(Exception):
    """The platform said no: status, stable code and its own words."""

    def __init__(self, what: str, response: httpx.Response) -> None:
        self.status = response.status_code
        try:
            self.problem: Json = response.json()
        except ValueError:
            self.problem = {"detail": response.text[:300]}
        self.code = str(self.problem.get("code", ""))
        errors = self.problem.get("errors") or ""
        super().__init__(f"{what}: {self.status} {self.code} — {self.problem.get('detail')} {errors}")


class Caller(Protocol):
    """Whoever has credentials."""

    async def headers(self, gateway: Gateway) -> dict[str, str]:
        """The headers that say who calls."""
        ...


@dataclass
class Person:
    """Somebody with an account; signs in once, then keeps the token fresh."""

    email: str
    password: str
    name: str
    locale: str = "pt-BR"
    id: str = ""
    refresh_token: str = ""
    access_token: str = ""
    valid_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def sign_in(self, gateway: Gateway) -> None:
        """Exchange the password for tokens."""
        login = {"email": self.email, "password": self.password}
        self._take(await gateway.post(None, "/v1/auth/login", json=login))

    async def headers(self, gateway: Gateway) -> dict[str, str]:
        """A bearer token that still lasts a while."""
        async with self.lock:
            if not self.access_token:
                await self.sign_in(gateway)
            elif time.monotonic() > self.valid_until - REFRESH_BEFORE_S:
                body = {"refresh_token": self.refresh_token}
                self._take(await gateway.post(None, "/v1/auth/refresh", json=body))
        return {"Authorization": f"Bearer {self.access_token}"}

    def _take(self, tokens: Json) -> None:
        self.access_token, self.refresh_token = tokens["access_token"], tokens["refresh_token"]
        self.valid_until = time.monotonic() + float(tokens["expires_in"])


@dataclass
class Key:
    """A partner's API key."""

    key: str

    async def headers(self, _gateway: Gateway) -> dict[str, str]:
        """The key as it is."""
        return {"X-API-Key": self.key}


class Gateway:
    """The public address: every request is timed by its route; waits and repeats are counted by reason."""

    def __init__(self, url: str, timings: Timings, *, at_once: int = AT_ONCE) -> None:
        self.url = url
        self.timings = timings
        limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        self._http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, limits=limits, trust_env=False)
        self._slots = asyncio.Semaphore(at_once)

    async def close(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def get(
        self, who: Caller | None, route: str, *ids: str, patience: Collection[str] = (), **params: Any
    ) -> Any:
        """The body of a GET; `route` has `{}` for each id."""
        response = await self.send(who, "GET", route, *ids, params=params, patience=patience)
        return response.json()

    async def post(self, who: Caller | None, route: str, *ids: str, json: Json, patience: Collection[str] = ()) -> Any:
        """The body of a POST. `patience` names refusals that only mean: not heard of it yet."""
        response = await self.send(who, "POST", route, *ids, json=json, patience=patience)
        return response.json() if response.content else None

    async def send(
        self,
        who: Caller | None,
        method: str,
        route: str,
        *ids: str,
        json: Json | None = None,
        content: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        patience: Collection[str] = (),
    ) -> httpx.Response:
        """The answer when it is a good one; raises `Refused` otherwise, after waiting where waiting helps.

        `content` is a body that is no JSON.
        The same Idempotency-Key goes with every repetition after silence, a new one after a refusal: that is final.
        """
        key = (headers or {}).get("Idempotency-Key") or str(uuid4())
        body = json if content is None else content
        patient_until, silent = time.monotonic() + PATIENCE_S, 0
        while True:
            given = {**(headers or {}), **({"Idempotency-Key": key} if method == "POST" else {})}
            credentials = await who.headers(self) if who else {}
            try:
                response = await self._once(method, route, ids, body, params, {**given, **credentials})
            except httpx.TransportError:
                silent += 1
                if silent > REPEATS_MAX:
                    raise
                self.timings.again["no answer"] += 1
                await asyncio.sleep(PAUSE_S * silent)
                continue
            if response.is_success:
                return response
            pause_s = self._pause(Refused(f"{method} {route}", response), response, patience, who, patient_until)
            await asyncio.sleep(pause_s)
            key = str(uuid4()) if response.status_code in FINAL else key

    def _pause(
        self,
        refused: Refused,
        response: httpx.Response,
        patience: Collection[str],
        who: Caller | None,
        patient_until: float,
    ) -> float:
        """How long to wait before asking again; raises when asking again is no use."""
        if refused.status == 429 and refused.code != "code-locked":
            wait_s = float(response.headers.get("Retry-After", "1"))
            if wait_s > QUOTA_WAIT_S_MAX:
                raise refused
            self.timings.again["over the quota, waited as told"] += 1
            return wait_s
        known = refused.code in patience or (who is not None and refused.code in NOT_HEARD_OF)
        busy = refused.status in UNAVAILABLE or refused.code == "idempotency-in-progress"
        if not (known or busy) or time.monotonic() > patient_until:
            raise refused
        self.timings.again[f"{refused.status} {refused.code}".strip()] += 1
        return PAUSE_S

    async def _once(
        self,
        method: str,
        route: str,
        ids: tuple[str, ...],
        body: Json | bytes | None,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> httpx.Response:
        sent: Json = {"content" if isinstance(body, bytes) else "json": body}
        async with self._slots:
            began = time.perf_counter()
            response = await self._http.request(
                method, route.format(*ids), params=params or None, headers=headers, **sent
            )
            if response.is_success:
                self.timings.add(f"{method} {route.format(*['{id}'] * len(ids))}", time.perf_counter() - began)
        return response
