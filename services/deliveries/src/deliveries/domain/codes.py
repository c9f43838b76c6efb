"""Custody codes: six digits from a per-delivery secret and the time, checked by both apps without a network."""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from deliveries.domain.refusals import CodeLocked, OfflineCodeRefused, WrongCode
from deliveries.domain.terms import Handshake

CODE_DIGITS = 6
CODE_STEP_S = 60  # long enough to read six digits aloud
CODE_STEPS_TOLERANCE = 1  # clocks of two phones may be a step apart
CODE_AGE_MAX = timedelta(hours=12)  # a working day without a network; older ones are a coordinator's matter
CODE_TRIES_MAX = 5  # per delivery and stage: guessing one of a million stays hopeless
CODE_TRIES_WINDOW = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What the taker shows, until when it is the newest, and the key from which their app makes the next ones offline."""

    code: str
    valid_until: datetime
    key: bytes = field(repr=False)
    step_s: int = CODE_STEP_S


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTries:
    """The wrong codes of one delivery and stage within the window."""

    failed_at: tuple[datetime, ...] = ()

    def left(self, now: datetime) -> int:
        """How many tries remain now."""
        return max(0, CODE_TRIES_MAX - len(self._recent(now)))

    def require_left(self, now: datetime) -> None:
        """Refuse when no try remains, saying in how many seconds the next one does."""
        if self.left(now) == 0:
            opens_at = self._recent(now)[-CODE_TRIES_MAX] + CODE_TRIES_WINDOW
            raise CodeLocked(retry_after_s=max(1, math.ceil((opens_at - now).total_seconds())))

    def failed(self, now: datetime) -> CodeTries:
        """One more wrong code; what left the window is forgotten."""
        return CodeTries(failed_at=(*self._recent(now), now))

    def refusal(self, now: datetime) -> WrongCode:
        """The error to raise once this failure is kept."""
        return WrongCode(tries_left=self.left(now))

    def _recent(self, now: datetime) -> tuple[datetime, ...]:
        return tuple(at for at in self.failed_at if now - at < CODE_TRIES_WINDOW)


def code_at(secret: bytes, *, version: int, stage: Handshake, now: datetime, step_s: int = CODE_STEP_S) -> Code:
    """The code to show now. `version` changes with every claim and reroute, so that old holders know nothing."""
    step, key = int(now.timestamp()) // step_s, stage_key(secret, version=version, stage=stage)
    valid_until = datetime.fromtimestamp((step + 1) * step_s, tz=UTC)
    return Code(code=hotp(key, step), valid_until=valid_until, key=key, step_s=step_s)


def code_matches(
    secret: bytes, code: str, *, version: int, stage: Handshake, now: datetime, step_s: int = CODE_STEP_S
) -> bool:
    """Whether this is the code of now or of a step before or after, compared in constant time."""
    step, key = int(now.timestamp()) // step_s, stage_key(secret, version=version, stage=stage)
    steps = range(max(0, step - CODE_STEPS_TOLERANCE), step + CODE_STEPS_TOLERANCE + 1)
    matches = [hmac.compare_digest(hotp(key, each).encode(), code.encode()) for each in steps]
    return any(matches)


def entered_at(client_time: datetime | None, *, claimed_at: datetime | None, now: datetime) -> datetime:
    """When a code was entered: now, or when the caller's clock says if that can be: neither ahead, nor too old, nor unclaimed.

    The clocks may differ by as much as the codes allow.
    """
    if client_time is None:
        return now
    slack = timedelta(seconds=CODE_STEP_S * CODE_STEPS_TOLERANCE)
    if client_time > now + slack:
        raise OfflineCodeRefused(reason="ahead", client_time=client_time)
    if client_time < now - CODE_AGE_MAX:
        raise OfflineCodeRefused(reason="too-old", client_time=client_time)
    if claimed_at is not None and client_time < claimed_at - slack:
        raise OfflineCodeRefused(reason="before-the-claim", client_time=client_time)
    return client_time


def stage_key(secret: bytes, *, version: int, stage: Handshake) -> bytes:
    """A key of its own for every claim and stage, so that a code of one is worth nothing at another."""
    return hmac.new(secret, f"{version}:{stage}".encode(), hashlib.sha256).digest()


def hotp(key: bytes, counter: int) -> str:
    """RFC 4226 with HMAC-SHA-256 as RFC 6238 allows: dynamic truncation to six digits."""
    digest = hmac.new(key, counter.to_bytes(8, "big"), hashlib.sha256).digest()
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**CODE_DIGITS:0{CODE_DIGITS}d}"
