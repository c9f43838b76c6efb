"""A partner's webhook endpoint: verifies Standard Webhooks signatures and keeps a line of everything it receives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_urlsafe

from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

RECEIPTS_FILE = "demo-receipts.ndjson"
HOST = "127.0.0.1"
SECRET_WAIT_S = 10.0  # the first event may be here before the answer that brings the secret
BODY_BYTES_MAX = 1_048_576


@dataclass(frozen=True)
class Receipt:
    """One request that arrived; `answered` 503 means: sent away on purpose, to see it come again."""

    endpoint_id: str
    webhook_id: str
    type: str
    event_time: str
    received_at: str
    verified: bool
    answered: int

    @property
    def taken(self) -> bool:
        """Genuine, and accepted."""
        return self.verified and self.answered < 300

    @property
    def lag_s(self) -> float:
        """From the event to its arrival."""
        return (datetime.fromisoformat(self.received_at) - datetime.fromisoformat(self.event_time)).total_seconds()


def load_receipts(path: Path) -> list[Receipt]:
    """Every receipt that any run kept in this file."""
    if not path.exists():
        return []
    return [Receipt(**json.loads(line)) for line in path.read_text().splitlines() if line]


class Receiver:
    """Listens on loopback from `start` to `stop`; refuses the first delivery of `sent_away` messages once each."""

    def __init__(self, ledger: Path, *, sent_away: int = 0) -> None:
        self.receipts: list[Receipt] = []
        self._ledger = ledger
        self._sent_away_left = sent_away
        self._sent_away: set[str] = set()
        self._secrets: dict[str, asyncio.Future[tuple[str, str]]] = {}
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post("/hooks/{slug}", self._receive)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    def address(self) -> tuple[str, str]:
        """(slug, URL) of a new endpoint; `know` tells its secret once there is one."""
        slug = token_urlsafe(12)
        self._secrets[slug] = asyncio.get_running_loop().create_future()
        return slug, f"http://{HOST}:{self._port}/hooks/{slug}"

    def know(self, slug: str, *, endpoint_id: str, secret: str) -> None:
        """From now on what comes to this address can be verified."""
        self._secrets[slug].set_result((endpoint_id, secret))

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        known = self._secrets.get(request.match_info["slug"])
        if known is None:
            return web.Response(status=404)
        endpoint_id, secret = await asyncio.wait_for(asyncio.shield(known), SECRET_WAIT_S)
        verified = _is_genuine(secret, body, dict(request.headers))
        message_id = request.headers.get("webhook-id", "")
        answer = self._answer(message_id, verified=verified)
        self._keep(_receipt(endpoint_id, message_id, body, verified=verified, answered=answer))
        return web.Response(status=answer)

    def _answer(self, message_id: str, *, verified: bool) -> int:
        if not verified:
            return 400
        if self._sent_away_left > 0 and message_id not in self._sent_away:
            self._sent_away.add(message_id)
            self._sent_away_left -= 1
            return 503
        return 204

    def _keep(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)
        with self._ledger.open("a") as file:
            file.write(json.dumps(asdict(receipt)) + "\n")


def _is_genuine(secret: str, body: bytes, headers: dict[str, str]) -> bool:
    try:
        Webhook(secret).verify(body, {name.lower(): value for name, value in headers.items()})
    except (WebhookVerificationError, ValueError):
        return False
    return True


def _receipt(endpoint_id: str, message_id: str, body: bytes, *, verified: bool, answered: int) -> Receipt:
    event = json.loads(body) if verified else {}
    now = datetime.now(UTC).isoformat()
    return Receipt(endpoint_id, message_id, event.get("type", ""), event.get("time", now), now, verified, answered)


def first_arrivals(receipts: list[Receipt]) -> Iterator[Receipt]:
    """The earliest genuine receipt of every message."""
    seen: set[tuple[str, str]] = set()
    for receipt in receipts:
        key = receipt.endpoint_id, receipt.webhook_id
        if receipt.verified and key not in seen:
            seen.add(key)
            yield receipt
