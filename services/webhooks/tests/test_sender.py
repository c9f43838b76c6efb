"""One POST over real sockets: bounded, never redirected, never to an address that is not allowed."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from webhooks import sender as sender_module
from webhooks.domain import Attempt, Outcome
from webhooks.sender import KEPT_BYTES_MAX, Lookup, Sender, parse_retry_after, resolve
from webhooks.signing import signed_headers
from webhooks.url_policy import UrlNotAllowed, parse_networks

from services.webhooks.tests.receiver import Receiver, drip, endless, hang_up, head, raw, reply, reset, silence

LOOPBACK = parse_networks("127.0.0.0/8,::1/128")
KEY = bytes(range(32))
BODY = '{"type":"vouajudar.batches.batch.ready.v1","name":"pão"}'.encode()


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that knows the key."""
    async with Receiver(keys=[KEY]) as running:
        yield running


@pytest_asyncio.fixture
async def sender() -> AsyncIterator[Sender]:
    """A sender to which the loopback network is open."""
    async with Sender(LOOPBACK) as running:
        yield running


def answers(*addresses: str) -> Lookup:
    """A name service that knows one answer to everything."""

    async def lookup(host: str, port: int) -> Sequence[str]:
        return addresses

    return lookup


async def post(sender: Sender, url: str, *, timeout_s: float = 5) -> Attempt:
    """Send the test body, signed."""
    headers = {**signed_headers("msg_1", 1_700_000_000, BODY, [KEY]), "content-type": "application/json"}
    return await sender.send(url, headers, BODY, timeout_s)


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivered(sender: Sender, receiver: Receiver, status: int) -> None:
    """A 2xx answer is a delivery, and the receiver got the very bytes, signed."""
    receiver.script(reply(status, headers=[("X-Trace", "abc")], body=b"" if status == 204 else b"thanks"))

    attempt = await post(sender, receiver.url)

    assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.DELIVERED, status, None)
    assert ("X-Trace", "abc") in attempt.response_head
    assert attempt.response_body == (b"" if status == 204 else b"thanks")
    request = receiver.requests[0]
    assert (request.method, request.target, request.body, request.verified) == ("POST", "/hook", BODY, True)
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["accept-encoding"] == "identity"
    assert "cookie" not in request.headers


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [300, 304, 400, 403, 404, 410, 429, 500, 503])
async def test_any_other_status_is_a_failure_with_its_answer(sender: Sender, receiver: Receiver, status: int) -> None:
    """What is not 2xx failed, and the answer is kept for the partner to read."""
    receiver.script(reply(status, body=b"" if status == 304 else b"no"))

    attempt = await post(sender, receiver.url)

    assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.FAILED, status, None)
    assert attempt.response_body == (b"" if status == 304 else b"no")


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_recorded_and_not_followed(sender: Sender, receiver: Receiver, status: int) -> None:
    """A redirect fails, its target is shown and never contacted."""
    async with Receiver() as target:
        receiver.script(reply(status, headers=[("Location", target.url)]))

        attempt = await post(sender, receiver.url)

        assert (attempt.outcome, attempt.status) == (Outcome.FAILED, status)
        assert ("Location", target.url) in attempt.response_head
        assert target.connections == 0


@pytest.mark.asyncio
async def test_connections_are_reused(sender: Sender, receiver: Receiver) -> None:
    """Several deliveries to one receiver travel over one connection."""
    for _ in range(5):
        await post(sender, receiver.url)

    assert (receiver.connections, len(receiver.requests)) == (1, 5)


@pytest.mark.asyncio
async def test_cookies_are_not_kept(sender: Sender, receiver: Receiver) -> None:
    """A cookie of one answer is not sent with the next message."""
    receiver.script(reply(200, headers=[("Set-Cookie", "a=b")]))

    await post(sender, receiver.url)
    await post(sender, receiver.url)

    assert "cookie" not in receiver.requests[1].headers


@pytest.mark.asyncio
async def test_proxies_of_the_environment_are_ignored(
    sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy variable does not lead messages around the policy."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")

    assert (await post(sender, receiver.url)).outcome is Outcome.DELIVERED


@pytest.mark.asyncio
async def test_a_refused_connection_is_told_apart(sender: Sender) -> None:
    """Nobody listening is a connect error."""
    async with Receiver() as gone:
        url = gone.url

    attempt = await post(sender, url)

    assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.FAILED, None, "connect")


@pytest.mark.asyncio
async def test_no_answer_ends_at_the_deadline(sender: Sender, receiver: Receiver) -> None:
    """A receiver that stays silent costs the deadline and no more."""
    receiver.script(silence())

    attempt = await post(sender, receiver.url, timeout_s=0.2)

    assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.FAILED, None, "timeout")
    assert 150 <= attempt.duration_ms < 2000


@pytest.mark.asyncio
async def test_a_dripping_body_ends_at_the_deadline(sender: Sender, receiver: Receiver) -> None:
    """The body counts towards the one deadline; what came of it is kept."""
    receiver.script(drip(200))

    attempt = await post(sender, receiver.url, timeout_s=0.3)

    assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.FAILED, 200, "timeout")
    assert attempt.response_body.startswith(b".")
    assert attempt.duration_ms < 2000


@pytest.mark.asyncio
async def test_an_endless_body_is_cut(sender: Sender, receiver: Receiver) -> None:
    """Reading stops at 64 KiB, 16 KiB are kept, the status decides, and the connection is given up."""
    receiver.script(endless(200), reply(200))

    attempt = await post(sender, receiver.url)
    after = await post(sender, receiver.url)

    assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.DELIVERED, 200, None)
    assert (len(attempt.response_body), attempt.response_truncated) == (KEPT_BYTES_MAX, True)
    assert (after.outcome, receiver.connections) == (Outcome.DELIVERED, 2)


@pytest.mark.asyncio
async def test_an_endless_body_of_a_failure_stays_a_failure(sender: Sender, receiver: Receiver) -> None:
    """Cutting the body does not turn a 500 into anything else."""
    receiver.script(endless(500))

    attempt = await post(sender, receiver.url)

    assert (attempt.outcome, attempt.status, attempt.response_truncated) == (Outcome.FAILED, 500, True)


@pytest.mark.asyncio
async def test_a_long_body_is_read_and_kept_in_part(sender: Sender, receiver: Receiver) -> None:
    """A body between the two bounds is read to its end, so that the connection lives on."""
    receiver.script(reply(200, body=b"y" * 40_000), reply(200))

    attempt = await post(sender, receiver.url)
    await post(sender, receiver.url)

    assert (len(attempt.response_body), attempt.response_truncated) == (KEPT_BYTES_MAX, True)
    assert receiver.connections == 1


@pytest.mark.asyncio
async def test_nothing_is_decompressed(sender: Sender, receiver: Receiver) -> None:
    """A gzip bomb stays the few bytes it came as."""
    bomb = gzip.compress(bytes(10_000_000))
    receiver.script(reply(200, headers=[("Content-Encoding", "gzip")], body=bomb))

    attempt = await post(sender, receiver.url)

    assert (attempt.outcome, attempt.response_body) == (Outcome.DELIVERED, bomb[:KEPT_BYTES_MAX])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "cut", [head(200, (), 100) + b"half", head(200, [("Transfer-Encoding", "chunked")]) + b"5\r\nhal"]
)
async def test_a_body_that_breaks_off_is_a_failure(sender: Sender, receiver: Receiver, cut: bytes) -> None:
    """An answer that never became complete is no delivery, and the message is not sent again at once."""
    for answer in (reset(after=cut), raw(cut)):
        receiver.requests.clear()
        receiver.script(answer)

        attempt = await post(sender, receiver.url)

        assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.FAILED, 200, "closed")
        assert len(receiver.requests) == 1


@pytest.mark.asyncio
async def test_a_reset_before_the_answer_on_a_new_connection_is_a_failure(sender: Sender, receiver: Receiver) -> None:
    """On a connection made for this message a reset counts, without a second try."""
    for answer in (reset(), hang_up()):
        receiver.requests.clear()
        receiver.script(answer)

        attempt = await post(sender, receiver.url)

        assert (attempt.outcome, attempt.status, attempt.error) == (Outcome.FAILED, None, "closed")
        assert len(receiver.requests) == 1


@pytest.mark.asyncio
async def test_a_stale_connection_is_replaced_once(sender: Sender, receiver: Receiver) -> None:
    """A reused connection that closes without a word is replaced by a new one within the same attempt."""
    for stale in (hang_up(), reset()):
        receiver.script(reply(200), stale, reply(202))
        await post(sender, receiver.url)

        attempt = await post(sender, receiver.url)

        assert (attempt.outcome, attempt.status) == (Outcome.DELIVERED, 202)


@pytest.mark.asyncio
async def test_a_stale_connection_is_not_replaced_twice(sender: Sender, receiver: Receiver) -> None:
    """The new connection's failure is the attempt's failure."""
    receiver.script(reply(200), hang_up(), hang_up(), reply(200))
    await post(sender, receiver.url)

    attempt = await post(sender, receiver.url)

    assert (attempt.outcome, attempt.error, len(receiver.requests)) == (Outcome.FAILED, "closed", 3)


@pytest.mark.asyncio
async def test_a_reused_connection_that_had_begun_to_answer_is_not_replaced(sender: Sender, receiver: Receiver) -> None:
    """Once a response has begun the receiver has the message; it is not sent again at once."""
    receiver.script(reply(200), raw(b"HTTP/1.1 200 OK\r\nX-A: b"), reply(200))
    await post(sender, receiver.url)

    attempt = await post(sender, receiver.url)

    assert (attempt.outcome, attempt.error, len(receiver.requests)) == (Outcome.FAILED, "closed", 2)


@pytest.mark.asyncio
async def test_headers_that_are_not_utf8_are_readable(sender: Sender, receiver: Receiver) -> None:
    """Any bytes in a response head become text without controls."""
    receiver.script(reply(200, headers=[("X-Latin", b"a\xe7\xe3o"), ("X-Utf", "ação"), ("X-Bytes", b"\xff\xfe\x80")]))

    attempt = await post(sender, receiver.url)

    assert attempt.outcome is Outcome.DELIVERED
    fields = dict(attempt.response_head)
    assert fields["X-Utf"] == "ação"
    assert fields["X-Latin"].startswith("a")
    assert all(text.isprintable() for field in attempt.response_head for text in field)
    assert all(text.encode("utf-8") for field in attempt.response_head for text in field)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 2000 No\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nNul: a\x00b\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_a_protocol_error(sender: Sender, receiver: Receiver, garbage: bytes) -> None:
    """An answer that cannot be parsed is a failure with a name, never a crash."""
    receiver.script(raw(garbage))

    attempt = await post(sender, receiver.url)

    assert (attempt.outcome, attempt.error) == (Outcome.FAILED, "protocol")
    assert attempt.detail.isprintable()


@pytest.mark.asyncio
async def test_an_oversized_head_is_told_apart(sender: Sender, receiver: Receiver) -> None:
    """A header line beyond all measure is refused while it is read."""
    receiver.script(raw(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 200_000 + b"\r\n\r\n"))

    attempt = await post(sender, receiver.url)

    assert (attempt.outcome, attempt.error) == (Outcome.FAILED, "too-large")


@pytest.mark.asyncio
async def test_the_kept_head_is_bounded(sender: Sender, receiver: Receiver) -> None:
    """Of many header fields only the first are kept."""
    receiver.script(reply(200, headers=[(f"X-{n}", "v" * 1000) for n in range(50)]))

    attempt = await post(sender, receiver.url)

    assert attempt.outcome is Outcome.DELIVERED
    assert sum(len(name) + len(value) for name, value in attempt.response_head) <= 8 * 1024


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "hint", "seconds"),
    [(429, "7", 7), (503, "120", 120), (500, "7", None), (200, "7", None), (429, "soon", None), (429, "", None)],
)
async def test_a_hint_counts_on_429_and_503_only(
    sender: Sender, receiver: Receiver, status: int, hint: str, seconds: int | None
) -> None:
    """Retry-After is told for the two statuses that may carry it."""
    receiver.script(reply(status, headers=[("Retry-After", hint)]))

    assert (await post(sender, receiver.url)).retry_after_s == seconds


NOW = datetime(2024, 5, 6, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("Mon, 06 May 2024 12:01:00 GMT", 60),
        ("Mon, 06 May 2024 11:00:00 GMT", 0),
        ("Wed, 05 Jun 2024 12:00:00 GMT", 30 * 86_400),
        ("2592000", 2_592_000),
        ("9" * 399, sender_module.RETRY_AFTER_S_MAX),
        ("9" * 5000, None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("Mon, 99 May 2024 12:01:00 GMT", None),
        ("Mon, 06 May 99999 12:01:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date(value: str, seconds: int | None) -> None:
    """Seconds and dates are understood, a past date is now, the rest is no hint."""
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "found",
    [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["169.254.169.254"], ["64:ff9b::7f00:1"], ["::ffff:127.0.0.1"], []],
)
async def test_a_name_that_leads_inside_is_refused_at_connect(
    receiver: Receiver, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers of the name service are judged before a connection to any of them is tried."""
    monkeypatch.setattr(Sender, "_open_socket", lambda *_: pytest.fail("a socket was opened"))
    async with Sender(lookup=answers(*found)) as public_only:
        attempt = await post(public_only, f"https://partner.example:{receiver.port}/hook")

    assert (attempt.outcome, attempt.error) == (Outcome.REFUSED, "url-not-allowed")
    assert attempt.detail
    assert receiver.connections == 0


@pytest.mark.asyncio
async def test_a_name_that_turns_inside_later_is_refused(receiver: Receiver) -> None:
    """An answer that was allowed once buys nothing for the next connection."""
    found = ["127.0.0.1"]

    async def lookup(host: str, port: int) -> Sequence[str]:
        return list(found)

    async with Sender(parse_networks("127.0.0.1/32"), lookup=lookup) as changing:
        receiver.script(reply(200, keep_alive=False))
        url = f"http://partner.example:{receiver.port}/hook"
        first = await post(changing, url)
        found[:] = ["127.0.0.2"]
        second = await post(changing, url)

    assert (first.outcome, second.outcome, second.error) == (Outcome.DELIVERED, Outcome.REFUSED, "url-not-allowed")
    assert receiver.requests[0].headers["host"] == f"partner.example:{receiver.port}"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:{port}/", "https://127.0.0.1:{port}/", "https://localhost:{port}/", "https://2130706433/"]
)
async def test_a_forbidden_address_in_the_url_is_refused(receiver: Receiver, url: str) -> None:
    """Without opened networks nothing on this machine is reached, however it is written."""
    async with Sender() as public_only:
        attempt = await post(public_only, url.format(port=receiver.port))

    assert (attempt.outcome, attempt.error, receiver.connections) == (Outcome.REFUSED, "url-not-allowed", 0)


@pytest.mark.asyncio
async def test_no_socket_opens_to_an_address_that_skipped_the_policy(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with the earlier checks gone, the socket itself is refused."""
    async with Sender(lookup=answers("127.0.0.1")) as public_only:
        monkeypatch.setattr(public_only, "_target", Sender(LOOPBACK)._checked)

        attempt = await post(public_only, receiver.url)

    assert (attempt.outcome, attempt.error, receiver.connections) == (Outcome.REFUSED, "url-not-allowed", 0)


@pytest.mark.asyncio
async def test_plain_http_never_leaves_the_opened_networks() -> None:
    """A public answer to a plain http name is refused although other networks are open."""
    async with Sender(LOOPBACK, lookup=answers("8.8.8.8")) as partly_open:
        attempt = await post(partly_open, "http://partner.example/")

    assert (attempt.outcome, attempt.error) == (Outcome.REFUSED, "url-not-allowed")


@pytest.mark.asyncio
async def test_a_name_nobody_knows_is_a_dns_error() -> None:
    """A failed look-up is told apart and made once."""
    calls = 0

    async def unknown(host: str, port: int) -> Sequence[str]:
        nonlocal calls
        calls += 1
        raise OSError(-2, "Name or service not known")

    async with Sender(lookup=unknown) as lost:
        attempt = await post(lost, "https://partner.example/")

    assert (attempt.outcome, attempt.error, calls) == (Outcome.FAILED, "dns", 1)


@pytest.mark.asyncio
async def test_a_slow_name_service_is_a_dns_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up has its own short bound inside the deadline."""
    monkeypatch.setattr(sender_module, "DNS_TIMEOUT_S", 0.05)

    async def slow(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with Sender(lookup=slow) as waiting:
        attempt = await post(waiting, "https://partner.example/")

    assert (attempt.outcome, attempt.error) == (Outcome.FAILED, "dns")
    assert attempt.duration_ms < 2000


@pytest.mark.asyncio
async def test_the_systems_names_are_judged_as_well(sender: Sender, receiver: Receiver) -> None:
    """Without an injected look-up the system resolves, and several at a time share one look-up."""
    url = f"http://localhost:{receiver.port}/hook"

    attempts = await asyncio.gather(*(post(sender, url) for _ in range(5)))

    assert {attempt.outcome for attempt in attempts} == {Outcome.DELIVERED}


@pytest.mark.asyncio
async def test_a_cancelled_attempt_rises(sender: Sender, receiver: Receiver) -> None:
    """Stopping the process stops the attempt; it is not recorded as the receiver's failure."""
    receiver.script(silence())
    sending = asyncio.create_task(post(sender, receiver.url))
    await receiver.received(1)

    sending.cancel()

    with pytest.raises(asyncio.CancelledError):
        await sending


def test_the_error_of_the_policy_has_one_name() -> None:
    """The slug partners see at save and in the attempt log is the same."""
    assert UrlNotAllowed.slug == "url-not-allowed"


# ---------------------------------------------------------------- at save


@pytest.mark.asyncio
async def test_a_name_is_resolved_and_every_answer_judged() -> None:
    """At save the URL comes back in normal form when all answers are public; one private answer refuses the name."""
    target = await resolve("https://Partner.Example:443/hook", (), answers("93.184.215.14"))

    assert target.url == "https://partner.example/hook"
    with pytest.raises(UrlNotAllowed):
        await resolve("https://partner.example/hook", (), answers("93.184.215.14", "10.0.0.1"))
    with pytest.raises(UrlNotAllowed):
        await resolve("http://partner.example/hook", LOOPBACK, answers("93.184.215.14"))
    assert (await resolve("http://partner.example/hook", LOOPBACK, answers("127.0.0.1"))).scheme == "http"


@pytest.mark.asyncio
async def test_an_address_is_judged_without_a_look_up() -> None:
    """No name service is asked about a number."""

    async def never(host: str, port: int) -> Sequence[str]:
        raise AssertionError(host)

    assert (await resolve("https://93.184.215.14/", (), never)).host == "93.184.215.14"
    with pytest.raises(UrlNotAllowed):
        await resolve("https://192.168.0.1/", (), never)


@pytest.mark.asyncio
async def test_a_name_without_an_answer_in_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown names and silent name services are the caller's problem, told as such."""
    monkeypatch.setattr(sender_module, "DNS_TIMEOUT_S", 0.05)

    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    for lookup in (unknown, silent):
        with pytest.raises(UrlNotAllowed, match="cannot be resolved"):
            await resolve("https://partner.example/hook", (), lookup)
