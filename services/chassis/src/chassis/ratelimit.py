"""Quotas: one GCRA step in Redis per request, shared by all replicas."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from chassis.problems import QuotaExceeded
from chassis.telemetry import log

TIMEOUT_S = 0.05
CONNECTIONS_MAX = 16

# GCRA: one timestamp per key. A full burst is allowed at once, then one request per interval.
_GCRA = """
local now = redis.call('TIME'); now = now[1] * 1000000 + now[2]
local interval = tonumber(ARGV[1]); local burst = tonumber(ARGV[2])
local tat = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local allow_at = tat + interval - interval * burst
if allow_at > now then return {0, 0, allow_at - now} end
redis.call('SET', KEYS[1], string.format('%.0f', tat + interval), 'PX', math.ceil((tat + interval - now) / 1000) + 1000)
return {1, math.floor((now - allow_at) / interval), 0}
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


class Quotas:
    """Takes one from a key's quota."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, max_connections=CONNECTIONS_MAX
        )
        self._gcra = self._redis.register_script(_GCRA)

    async def take(self, key: str, *, limit: int, window_s: int = 60, fail_open: bool = True) -> Quota:
        """One step; raises `QuotaExceeded` when none is left, or when Redis is down and the quota must fail closed."""
        try:
            allowed, remaining, wait_us = await self._gcra(
                keys=[f"quota:{key}"], args=[window_s * 1_000_000 / limit, limit]
            )
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("quota.unavailable", error=repr(error), fail_open=fail_open)
            if not fail_open:
                raise QuotaExceeded("quotas cannot be checked now", retry_after_s=5) from error
            return Quota(limit, window_s, limit)
        if not allowed:
            raise QuotaExceeded(f"more than {limit} in {window_s} s", retry_after_s=wait_us / 1_000_000)
        return Quota(limit, window_s, remaining)

    async def close(self) -> None:
        """Give the connections back."""
        await self._redis.aclose()
