"""One POST to a partner: bounded in time and size, never to an address the policy refuses, no database.

The name is resolved once, every answer is judged, and the connection goes to a judged address while Host and SNI keep
the name. Redirects, proxies of the environment, cookies and decompression are off.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from webhooks.domain import HINTING_STATUSES, Attempt, Outcome, is_success
from webhooks.url_policy import CheckedUrl, Network, UrlNotAllowed, check_addresses, check_url

DNS_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 5.0  # TCP and TLS, per address
TOTAL_TIMEOUT_S = 15.0  # look-up, connection, request, head and body together
READ_BYTES_MAX = 64 * 1024
KEPT_BYTES_MAX = 16 * 1024
HEAD_FIELDS_MAX = 64
HEAD_CHARS_MAX = 8 * 1024
DETAIL_CHARS_MAX = 300
CONNECTIONS_MAX = 1000  # above the sum of slots the dispatcher gives out, so that nobody queues here
KEEPALIVE_S = 15.0  # most servers close idle connections later than this
DNS_THREADS_MAX = 32  # a look-up that hangs keeps a thread; one per name at most
URLS_REMEMBERED_MAX = 10_000
RETRY_AFTER_S_MAX = 10 * 365 * 86_400  # beyond any use; keeps the number storable

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

_DELTA_SECONDS = re.compile(r"[0-9]{1,400}", re.ASCII)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(slots=True)
class _Flight:
    """What the resolver and the socket factory need to know of, and tell to, the attempt they work for."""

    scheme: str
    needs_connection: bool = False  # stays False on a reused one


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL that passed, taken apart once."""

    url: URL
    scheme: str


@dataclass(slots=True)
class _Response:
    """What was read of an answer so far, kept when the rest fails."""

    status: int | None = None
    head: tuple[tuple[str, str], ...] = ()
    body: bytearray = field(default_factory=bytearray)
    is_truncated: bool = False
    retry_after_s: int | None = None


_flight: ContextVar[_Flight] = ContextVar("webhooks_flight")


class Sender:
    """Sends signed bytes to endpoints; an async context manager that owns its pooled connections.

    `allowed_networks` may be reached besides public addresses, also over http. `lookup` replaces the system's name
    resolution, `ssl_context` the system's certificate authorities.
    """

    def __init__(
        self,
        allowed_networks: Sequence[Network] = (),
        *,
        lookup: Lookup | None = None,
        ssl_context: ssl.SSLContext | None = None,
        connections_max: int = CONNECTIONS_MAX,
        user_agent: str = "VouAjudar-Webhooks/1",
    ) -> None:
        self._allowed_networks = tuple(allowed_networks)
        self._target = lru_cache(URLS_REMEMBERED_MAX)(self._checked)
        self._system_lookup = None if lookup else SystemLookup()
        self._resolver = _CheckedResolver(lookup or self._system_lookup, self._allowed_networks)
        self._ssl: ssl.SSLContext | bool = ssl_context or True
        self._connections_max = connections_max
        self._headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}
        self._pooled: aiohttp.ClientSession | None = None
        self._unpooled: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._pooled = self._session(keepalive_timeout=KEEPALIVE_S, limit=self._connections_max)
        self._unpooled = self._session(force_close=True, limit=self._connections_max)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in (self._pooled, self._unpooled):
            if session is not None:
                await session.close()
        if self._system_lookup is not None:
            self._system_lookup.close()

    async def send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout_s: float = TOTAL_TIMEOUT_S
    ) -> Attempt:
        """POST the bytes once and tell what came of it; only a cancellation or a wrong header of ours is raised."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        response = _Response()
        failure: Exception | None = None
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                await self._post(self._target(url), headers, body, response)
        except (UrlNotAllowed, aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = error
        duration_ms = round((loop.time() - started) * 1000)
        return _attempt(response, failure, duration_ms=duration_ms, is_late=deadline.expired())

    async def _post(self, target: _Target, headers: Mapping[str, str], body: bytes, response: _Response) -> None:
        flight = _Flight(target.scheme)
        token = _flight.set(flight)
        try:
            try:
                await self._exchange(self._pooled, target, headers, body, response)
            except (
                aiohttp.ServerDisconnectedError,
                aiohttp.ClientOSError,
                aiohttp.ClientConnectionResetError,
            ) as error:
                # The receiver closed an idle connection while we were writing to it: not an answer to this message.
                if flight.needs_connection or response.status is not None or not _is_unanswered(error):
                    raise
                await self._exchange(self._unpooled, target, headers, body, response)
        finally:
            _flight.reset(token)

    async def _exchange(
        self,
        session: aiohttp.ClientSession | None,
        target: _Target,
        headers: Mapping[str, str],
        body: bytes,
        response: _Response,
    ) -> None:
        if session is None:
            raise RuntimeError("the sender is not open")
        async with session.post(target.url, data=body, headers=headers, allow_redirects=False) as answer:
            response.status = answer.status
            response.head = tuple(_readable_head(answer.raw_headers))
            if answer.status in HINTING_STATUSES:
                response.retry_after_s = parse_retry_after(answer.headers.get("Retry-After", ""), datetime.now(UTC))
            await _read_body(answer, response)

    def _session(self, **connector: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,  # a shared look-up would lose the attempt it is made for
                ssl=self._ssl,
                socket_factory=self._open_socket,
                **connector,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, ceil_threshold=3600),
            headers=self._headers,
            auto_decompress=False,
            trust_env=False,
            read_bufsize=KEPT_BYTES_MAX,
        )

    def _checked(self, url: str) -> _Target:
        checked = check_url(url, self._allowed_networks)
        return _Target(URL(checked.url, encoded=True), checked.scheme)

    def _open_socket(self, address: Any) -> socket.socket:
        """Open no socket but to an address that passes, whichever way it came here."""
        family, kind, protocol, _, peer = address
        flight = _flight.get()
        flight.needs_connection = True
        check_addresses([peer[0]], self._allowed_networks, scheme=flight.scheme)
        return socket.socket(family, kind, protocol)


async def resolve(url: str, allowed_networks: Sequence[Network], lookup: Lookup) -> CheckedUrl:
    """The URL in normal form when every address it leads to now may be sent to; raises UrlNotAllowed otherwise."""
    target = check_url(url, allowed_networks)
    if target.address is None:
        try:
            async with asyncio.timeout(DNS_TIMEOUT_S):
                answers = await lookup(target.host, target.port)
        except (TimeoutError, OSError, UnicodeError) as error:
            raise UrlNotAllowed("the host cannot be resolved") from error
        check_addresses(answers, allowed_networks, scheme=target.scheme)
    return target


class SystemLookup:
    """Names resolved by the system in threads of its own, one look-up per name at a time."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(DNS_THREADS_MAX, thread_name_prefix="webhooks-dns")
        self._running: dict[tuple[str, int], asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name; giving up on the answer does not start the look-up again."""
        key = (host, port)
        if (running := self._running.get(key)) is None:
            running = asyncio.get_running_loop().run_in_executor(self._threads, _addresses_of, host, port)
            self._running[key] = running
            running.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(running)

    def close(self) -> None:
        """Start nothing more; a look-up that hangs is left to end by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _forget(self, key: tuple[str, int], done: asyncio.Future[list[str]]) -> None:
        del self._running[key]
        if not done.cancelled():
            done.exception()  # seen: whoever waited has been told or has given up


class _CheckedResolver(AbstractResolver):
    """Hands out the addresses of a name only when all of them pass the policy."""

    def __init__(self, lookup: Lookup | None, allowed_networks: Sequence[Network]) -> None:
        if lookup is None:
            raise ValueError("a look-up is needed")
        self._lookup = lookup
        self._allowed_networks = allowed_networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The checked addresses in the form the connector wants; OSError when the name has none in time."""
        flight = _flight.get()
        flight.needs_connection = True
        try:
            async with asyncio.timeout(DNS_TIMEOUT_S):
                answers = await self._lookup(host, port)
        except TimeoutError as error:
            raise OSError(None, f"no answer within {DNS_TIMEOUT_S:g} s") from error
        addresses = check_addresses(answers, self._allowed_networks, scheme=flight.scheme)
        return [
            ResolveResult(hostname=host, host=str(address), port=port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to close: the look-up belongs to the sender."""


def parse_retry_after(value: str, now: datetime) -> int | None:
    """The seconds a Retry-After asks for, given as seconds or as a date; a past date is 0, what is unreadable None."""
    text = value.strip()
    if _DELTA_SECONDS.fullmatch(text):
        return min(int(text), RETRY_AFTER_S_MAX)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0, round((moment - now).total_seconds())), RETRY_AFTER_S_MAX)


def _addresses_of(host: str, port: int) -> list[str]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


async def _read_body(answer: aiohttp.ClientResponse, response: _Response) -> None:
    """Read to the end or to the bound; leaving the response unread closes its connection."""
    read = 0
    while chunk := await answer.content.read(READ_BYTES_MAX - read):
        read += len(chunk)
        response.body += chunk[: KEPT_BYTES_MAX - len(response.body)]
    response.is_truncated = read > len(response.body) or not answer.content.at_eof()


def _readable_head(fields: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[str, str]]:
    """The header fields as text that any database takes, as many as fit."""
    room = HEAD_CHARS_MAX
    for name, value in fields[:HEAD_FIELDS_MAX]:
        pair = (_readable(name), _readable(value))
        room -= len(pair[0]) + len(pair[1])
        if room < 0:
            return
        yield pair


def _readable(raw: bytes) -> str:
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", raw.decode("utf-8", "replace"))


def _is_unanswered(error: Exception) -> bool:
    """Whether not even the beginning of a response had come; the parser hands over a head it had begun."""
    return not isinstance(error, aiohttp.ServerDisconnectedError) or isinstance(error.message, str)


def _attempt(response: _Response, failure: Exception | None, *, duration_ms: int, is_late: bool) -> Attempt:
    error = "timeout" if is_late else _slug(failure) if failure is not None else None
    return Attempt(
        outcome=_outcome(response.status, error),
        duration_ms=duration_ms,
        status=response.status,
        error=error,
        detail=_detail(failure, is_late=is_late),
        response_head=response.head,
        response_body=bytes(response.body),
        response_truncated=response.is_truncated,
        retry_after_s=response.retry_after_s,
    )


def _outcome(status: int | None, error: str | None) -> Outcome:
    if error == UrlNotAllowed.slug:
        return Outcome.REFUSED
    return Outcome.DELIVERED if error is None and status is not None and is_success(status) else Outcome.FAILED


def _slug(failure: BaseException) -> str:
    if _is_in_chain(failure, UrlNotAllowed):
        return UrlNotAllowed.slug
    if isinstance(failure, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(failure, aiohttp.ClientSSLError) or _is_in_chain(failure, ssl.SSLError):
        return "tls"
    if isinstance(failure, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return "connect"
    if isinstance(failure, aiohttp.ClientResponseError):
        return "too-large" if _is_in_chain(failure, LineTooLong) else "protocol"
    if isinstance(failure, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | OSError):
        return "closed"
    return "protocol"


def _is_in_chain(failure: BaseException | None, kind: type[BaseException]) -> bool:
    seen = 0
    while failure is not None and seen < 10:
        if isinstance(failure, kind):
            return True
        failure, seen = failure.__cause__ or failure.__context__, seen + 1
    return False


def _detail(failure: Exception | None, *, is_late: bool) -> str:
    if is_late:
        return "the deadline passed before the answer was complete"
    return _UNPRINTABLE.sub(" ", str(failure))[:DETAIL_CHARS_MAX] if failure is not None else ""
