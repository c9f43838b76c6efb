"""People and organizations as tests of identity need them: made through the API, admins by `create-admin`."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
from contracts.values import cnpj_is_valid

PASSWORD = "uma frase longa e secreta"


@dataclass(frozen=True)
class Person:
    """Somebody signed in."""

    id: UUID
    email: str
    headers: dict[str, str]
    refresh_token: str


@dataclass(frozen=True)
class Tenant:
    """An organization, its manager and a member of its staff."""

    id: UUID
    cnpj: str
    manager: Person
    staff: Person


def a_cnpj(*, root: str | None = None) -> str:
    """A CNPJ that nobody has, letters included; of a company when `root` says so."""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    body = root or "".join(random.choices(alphabet, k=8))
    body += "".join(random.choices(alphabet, k=4))
    return next(cnpj for n in range(100) if cnpj_is_valid(cnpj := f"{body}{n:02}"))


def an_email() -> str:
    """An address that nobody has."""
    return f"pessoa.{uuid4().hex[:12]}@example.org"


def a_user(**changes: Any) -> dict[str, Any]:
    """A person who signs up."""
    return {"email": an_email(), "password": PASSWORD, "display_name": "Ana Clara", "locale": "pt-BR", **changes}


def an_organization(**changes: Any) -> dict[str, Any]:
    """A provider that registers."""
    return {
        "cnpj": a_cnpj(),
        "legal_name": "Padaria Pão Quente Ltda",
        "trade_name": "Pão Quente",
        "kinds": ["provider"],
        **changes,
    }


def a_place(organization_id: UUID, **changes: Any) -> dict[str, Any]:
    """A pickup place in the middle of Porto Alegre."""
    return {
        "organization_id": str(organization_id),
        "name": "Loja do Centro",
        "roles": ["pickup"],
        "address": "Rua dos Andradas, 1001",
        "cep": "90020-007",
        "ibge_city": "4314902",
        "lat": -30.0302,
        "lon": -51.2287,
        "tz": "America/Sao_Paulo",
        "accepts": [],
        **changes,
    }


def a_key(organization_id: UUID, **changes: Any) -> dict[str, Any]:
    """A key for reading batches."""
    return {
        "organization_id": str(organization_id),
        "name": "ERP da loja",
        "scopes": ["batches:read"],
        "env": "live",
        **changes,
    }


class People:
    """Signs people up and in, and makes organizations of them."""

    def __init__(self, client: httpx.AsyncClient, database_url: str) -> None:
        self.client = client
        self.database_url = database_url
        self._admin: Person | None = None

    async def person(self, **changes: Any) -> Person:
        """Somebody new, signed in."""
        body = a_user(**changes)
        answer = await self.client.post("/v1/users", json=body)
        assert answer.status_code == 201, answer.text
        return await self.signed_in(body["email"], body["password"], id_=UUID(answer.json()["id"]))

    async def signed_in(self, email: str, password: str = PASSWORD, *, id_: UUID | None = None) -> Person:
        """Somebody who has signed up, with a new session."""
        answer = await self.client.post("/v1/auth/login", json={"email": email, "password": password})
        assert answer.status_code == 200, answer.text
        tokens = answer.json()
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        id_ = id_ or UUID((await self.client.get("/v1/me", headers=headers)).json()["id"])
        return Person(id_, email, headers, tokens["refresh_token"])

    async def admin(self) -> Person:
        """The admin whom an operator made."""
        if self._admin is None:
            email = an_email()
            done = await self.create_admin(email)
            assert done.returncode == 0, done.stderr
            self._admin = await self.signed_in(email)
        return self._admin

    async def create_admin(self, email: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
        """`python -m identity create-admin`, as its own process."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "identity", "create-admin", email],
            env={**os.environ, "VAJ_DATABASE_URL": self.database_url},
            input=f"{password}\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    async def registered(self, manager: Person, **changes: Any) -> dict[str, Any]:
        """An organization that is not verified yet."""
        answer = await self.client.post("/v1/organizations", json=an_organization(**changes), headers=manager.headers)
        assert answer.status_code == 201, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def tenant(self, *, verified: bool = True) -> Tenant:
        """An organization with a manager and staff, verified unless told otherwise."""
        manager, staff = await self.person(), await self.person()
        organization = await self.registered(manager)
        path = f"/v1/organizations/{organization['id']}"
        body = {"user_id": str(staff.id), "role": "staff"}
        added = await self.client.post(f"{path}/members", json=body, headers=manager.headers)
        assert added.status_code == 201, added.text
        if verified:
            done = await self.client.post(f"{path}/verify", headers=(await self.admin()).headers)
            assert done.status_code == 200, done.text
        return Tenant(UUID(organization["id"]), organization["cnpj"], manager, staff)

    async def place(self, tenant: Tenant, **changes: Any) -> dict[str, Any]:
        """A place of an organization."""
        body = a_place(tenant.id, **changes)
        answer = await self.client.post("/v1/places", json=body, headers=tenant.manager.headers)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def key(self, tenant: Tenant, **changes: Any) -> dict[str, Any]:
        """A key of an organization, with its secret."""
        body = a_key(tenant.id, **changes)
        answer = await self.client.post("/v1/api-keys", json=body, headers=tenant.manager.headers)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made
