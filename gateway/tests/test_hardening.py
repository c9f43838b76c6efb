"""What outsiders may not do, whatever a service would make of it."""

from __future__ import annotations

import json
import socket

import httpx
import pytest

from gateway.tests.conftest import Gateway, eventually

STRIPPED = [
    "X-User-Id",
    "X-User-Roles",
    "X-Tenant-Id",
    "X-Internal-Token",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
]


@pytest.mark.parametrize("name", STRIPPED)
def test_headers_of_insiders_are_stripped(client: httpx.Client, name: str) -> None:
    """Identity, tenant and trace headers from outside never reach a service."""
    received = client.get("/v1/batches", headers={name: "forged"}).json()["headers"]

    assert name.lower() not in received


@pytest.mark.parametrize("name", ["X_User_Id", "X.User.Id", "Trace_Parent"])
def test_names_that_alias_a_header_are_refused(client: httpx.Client, name: str) -> None:
    """A header whose name some servers read as another one is refused."""
    assert client.get("/v1/batches", headers={name: "forged"}).status_code == 400


@pytest.mark.parametrize("encoded", ["%2f", "%5c", "%00", "%3b", "%25", "%3f", "%23"])
def test_ambiguous_paths_are_refused(gateway: Gateway, encoded: str) -> None:
    """A path that two servers could read differently is refused."""
    assert _status_of(gateway, f"/v1/batches/a{encoded}b") == 400


def test_headers_have_a_size(client: httpx.Client) -> None:
    """More than 64 KiB of headers are refused."""
    assert client.get("/v1/batches", headers={"X-Big": "a" * 80_000}).status_code == 431


def test_forwarding_headers_of_strangers_do_not_count(client: httpx.Client) -> None:
    """A service sees the real address, whatever the caller claims."""
    received = client.get("/v1/batches", headers={"X-Forwarded-For": "203.0.113.9"}).json()["headers"]

    assert received["x-forwarded-for"] == "127.0.0.1"


def test_every_answer_carries_the_security_headers(client: httpx.Client) -> None:
    """Security headers are on answers of services and of the gateway; what reveals the server is not."""
    for answer in (client.get("/v1/batches"), client.get("/nowhere")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert not {"server", "x-powered-by"} & set(answer.headers)


def test_the_access_log_has_no_query(gateway: Gateway) -> None:
    """Every request is in the access log, as JSON, without its query."""
    with gateway.client() as client:
        for _ in range(300):  # more than the log holds back
            client.get("/v1/batches?near=-30.03,-51.22")
    log = gateway.home / "access.log"
    eventually(lambda: log.stat().st_size > 0, "the access log is written")

    line = json.loads(log.read_text().splitlines()[0])

    assert "-30.03" not in log.read_text()
    assert {"RequestMethod", "RequestPath", "DownstreamStatus", "Duration"} <= set(line)


def _status_of(gateway: Gateway, target: str) -> int:
    """The status for a request target that clients would tidy up."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])
