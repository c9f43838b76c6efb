"""What tests of webhooks start from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from chassis.testing import eventually
from chassis.testing.callers import Caller

Endpoint = dict[str, Any]


class Tenant:
    """An organization with a manager and a partner's key."""

    organization_id: UUID
    manager: Caller
    partner: Caller


class Owner:
    """What the owner of endpoints sees through the API."""

    def __init__(self, client: httpx.AsyncClient, tenant: Tenant) -> None:
        self._client = client
        self._headers = tenant.partner.headers

    async def get(self, path: str) -> Any:
        answer = await self._client.get(path, headers=self._headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def post(self, path: str, status: int = 200, **body: Any) -> Any:
        answer = await self._client.post(path, json=body or None, headers=self._headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def messages(self, **query: Any) -> list[dict[str, Any]]:
        answer = await self._client.get("/v1/webhook-messages", params=query, headers=self._headers)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def attempts(self, message_id: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.get(f"/v1/webhook-messages/{message_id}/attempts"))["items"]
        return items

    async def settled(self, endpoint: Endpoint, *statuses: str) -> list[dict[str, Any]]:
        """The endpoint's messages, oldest first, once they stand like this."""

        async def check() -> list[dict[str, Any]]:
            found = (await self.messages(endpoint_id=endpoint["id"]))[::-1]
            assert [message["status"] for message in found] == list(statuses)
            return found

        found: list[dict[str, Any]] = await eventually(check)
        return found

    async def until_waiting(self, message_id: str, *, attempts: int) -> timedelta:
        """How long a message waits for its next attempt after the last of so many."""

        async def check() -> dict[str, Any]:
            found: dict[str, Any] = await self.get(f"/v1/webhook-messages/{message_id}")
            assert (found["status"], found["attempts"]) == ("retrying", attempts)
            return found

        message = await eventually(check)
        return datetime.fromisoformat(message["next_attempt_at"]) - datetime.now(UTC)

    async def ended(self, job_id: str, status: str = "done", *, timeout_s: float = 20) -> dict[str, Any]:
        """A job once it stands like this."""

        async def check() -> dict[str, Any]:
            found: dict[str, Any] = await self.get(f"/v1/jobs/{job_id}")
            assert found["status"] == status, found
            return found

        found: dict[str, Any] = await eventually(check, timeout_s=timeout_s)
        return found
