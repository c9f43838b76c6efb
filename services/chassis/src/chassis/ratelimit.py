"""Quotas: GCRA in Redis, shared by all replicas; a busy caller's requests are taken a few at a time."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from chassis.problems import QuotaExceeded
from chassis.telemetry import log

TIMEOUT_S = 0.05  # a read is not held up longer than this by its own quota
CLOSED_TIMEOUT_S = 1.0  # where failing means refusing, wait a little longer
CONNECTIONS_MAX = 16
LEASE_S = 1.0  # what was taken ahead and not used by then is forfeit
LEASE_SHARE = 10  # at most a tenth of the last second's requests is taken ahead
LEASES_KEPT_MAX = 10_000

# GCRA: one timestamp per key. A full burst is allowed at once, then one request per interval. Up to ARGV[3] are granted.
_GCRA = """
local now = redis.call('TIME'); now = now[1] * 1000000 + now[2]
local interval = tonumber(ARGV[1]); local burst = tonumber(ARGV[2])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local left = math.floor((now - (tat - interval * burst)) / interval)
if left < 1 then return {0, 0, tat + interval - interval * burst - now} end
local granted = math.min(left, tonumber(ARGV[3]))
tat = tat + interval * granted
redis.call('SET', KEYS[1], string.format('%.0f', tat), 'PX', math.ceil((tat - now) / 1000) + 1000)
return {granted, left - granted, 0}
"""


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left: `limit` per `window_s`, `remaining` now."""

    limit: int
    window_s: int
    remaining: int

    @property
    def headers(self) -> dict[str, str]:
        """The fields of draft-ietf-httpapi-ratelimit-headers."""
        return {
            "RateLimit-Policy": f'"default";q={self.limit};w={self.window_s}',
            "RateLimit": f'"default";r={self.remaining};t={self.window_s}',
        }


@dataclass(slots=True)
class _Lease:
    """What one caller has taken ahead in this process, and how busy it is."""

    left: int = 0
    remaining: int = 0
    until: float = 0.0
    second: int = 0
    used: int = 0
    used_before: int = 0

    def count(self, now: float) -> None:
        """One more request in this second."""
        if int(now) != self.second:
            self.used_before = self.used if int(now) == self.second + 1 else 0
            self.second, self.used = int(now), 0
        self.used += 1


class Quotas:
    """Takes one from a key's quota."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url,
            socket_timeout=CLOSED_TIMEOUT_S,
            socket_connect_timeout=CLOSED_TIMEOUT_S,
            max_connections=CONNECTIONS_MAX,
        )
        self._gcra = self._redis.register_script(_GCRA)
        self._leases: OrderedDict[str, _Lease] = OrderedDict()

    async def take(self, key: str, *, limit: int, window_s: int = 60, fail_open: bool = True) -> Quota:
        """One step; raises `QuotaExceeded` when none is left, or when Redis is down and the quota must fail closed."""
        lease, now = self._lease(key), time.monotonic()
        lease.count(now)
        if lease.left > 0 and lease.until > now:
            lease.left -= 1
            return Quota(limit, window_s, lease.remaining + lease.left)
        wanted = max(1, lease.used_before // LEASE_SHARE)
        try:
            async with asyncio.timeout(TIMEOUT_S if fail_open else CLOSED_TIMEOUT_S):
                granted, remaining, wait_us = await self._gcra(
                    keys=[f"quota:{key}"], args=[window_s * 1_000_000 / limit, limit, wanted]
                )
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("quota.unavailable", error=repr(error), fail_open=fail_open)
            if not fail_open:
                raise QuotaExceeded("quotas cannot be checked now", retry_after_s=5) from error
            return Quota(limit, window_s, limit)
        if not granted:
            raise QuotaExceeded(f"more than {limit} in {window_s} s", retry_after_s=wait_us / 1_000_000)
        lease.left, lease.remaining, lease.until = granted - 1, remaining, now + LEASE_S
        return Quota(limit, window_s, remaining + granted - 1)

    def _lease(self, key: str) -> _Lease:
        lease = self._leases.setdefault(key, _Lease())
        self._leases.move_to_end(key)
        if len(self._leases) > LEASES_KEPT_MAX:
            self._leases.popitem(last=False)
        return lease

    async def close(self) -> None:
        """Give the connections back."""
        await self._redis.aclose()
