"""Passwords: Argon2id at the OWASP floor, off the event loop, a few at once; checking nobody's costs as much."""

from __future__ import annotations

import asyncio
import os
import secrets
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

MEMORY_KIB, PASSES, LANES = 19_456, 2, 1  # OWASP Password Storage Cheat Sheet, Argon2id
AT_ONCE = max(1, (os.cpu_count() or 2) // 2)  # each takes a core for about 50 ms; the others stay for everything else
WAIT_S_MAX = 10  # longer than this in the queue means overload: the caller hears 503 and may come back


class Passwords:
    """Hashes and checks passwords; equal texts in different Unicode forms are one password (NFKC)."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._nobodys = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """What is stored of a password; raises TimeoutError under overload."""
        async with self._slot():
            return await asyncio.to_thread(self._hasher.hash, _normal(password))

    async def matches(self, stored: str | None, password: str) -> bool:
        """Is this the password? For nobody (None) the answer is no, after the same work."""
        async with self._slot():
            right = await asyncio.to_thread(self._verify, stored or self._nobodys, _normal(password))
        return right and stored is not None

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        async with asyncio.timeout(WAIT_S_MAX):
            await self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release()

    def _verify(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except VerifyMismatchError:
            return False


def _normal(password: str) -> str:
    return unicodedata.normalize("NFKC", password)
