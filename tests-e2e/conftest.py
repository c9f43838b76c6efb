"""Journeys through the gateway against the whole stack that `scripts/test` has started (`VAJ_E2E_HOME`)."""

from __future__ import annotations

import importlib
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent))  # this folder's name is no Python name; its modules stand alone

from scripts.stack import Stack  # noqa: E402

people = importlib.import_module("people")


@pytest.fixture(scope="session")
def stack() -> Stack:
    home = os.environ.get("VAJ_E2E_HOME")
    if not home:
        pytest.exit("VAJ_E2E_HOME is not set; run these tests through scripts/test", returncode=4)
    return Stack(home)


@pytest.fixture(scope="session")
def settings(stack: Stack) -> dict[str, str]:
    return stack.settings


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def public(settings: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """An anonymous client of the one public address."""
    async with httpx.AsyncClient(base_url=settings["VAJ_PUBLIC_URL"], timeout=30) as client:
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(public: httpx.AsyncClient, settings: dict[str, str]) -> people.World:
    """The admin, made as an operator makes one, and the way to everybody else."""
    email, password = f"admin-{secrets.token_hex(4)}@example.org", secrets.token_urlsafe(24)
    subprocess.run(
        [REPOSITORY / "scripts" / "create-admin", email],
        input=password,
        text=True,
        check=True,
        capture_output=True,
        env={**os.environ, "VAJ_HOME": settings["VAJ_HOME"]},
    )
    return people.World(public, await people.login(public, email, password))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def town(world: people.World) -> people.Town:
    """A provider, a shelter, a volunteer, a partner: what every journey needs."""
    return await people.found_town(world)


@pytest.fixture
def receiver() -> Iterator[people.Receiver]:
    """A partner's own server, which verifies every webhook."""
    with people.Receiver() as opened:
        yield opened
