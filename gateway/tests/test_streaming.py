"""Uploads and event streams flow through; nothing waits for their end."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from gateway.tests.conftest import Gateway

UPLOAD_BYTES = 3_000_000


@pytest.mark.parametrize("path", ["/v1/catalogue-loads", "/v1/inovafarma/products"])
def test_an_upload_arrives_while_it_is_sent(gateway: Gateway, path: str) -> None:
    """The service reads the first bytes of an upload long before the last is sent, and more than 1 MiB passes."""
    resources = gateway.backends["resources"]
    resources.first_bytes.clear()

    def body() -> Iterator[bytes]:
        yield b"x" * 100_000
        assert resources.first_bytes.wait(10), "the gateway holds the upload back"
        yield b"x" * (UPLOAD_BYTES - 100_000)

    with gateway.client() as client:
        answer = client.post(path, content=body(), headers={"Content-Length": str(UPLOAD_BYTES)})

    assert answer.json()["body_bytes"] == UPLOAD_BYTES


def test_an_event_arrives_when_it_happens(gateway: Gateway) -> None:
    """The first event of a stream arrives while the stream is still open."""
    backend = gateway.backends["notifications"]
    backend.release.clear()
    with gateway.client() as client, client.stream("GET", "/v1/stream/events") as answer:
        lines = answer.iter_lines()
        first = next(lines)
        backend.release.set()
        rest = list(lines)

    assert first == "data: first"
    assert "data: second" in rest


def test_the_client_of_an_open_stream_does_not_block_others(gateway: Gateway) -> None:
    """A request held by its service holds nobody else."""
    backend = gateway.backends["notifications"]
    backend.release.clear()
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as held, gateway.client() as client:
        held.sendall(b"GET /v1/notifications/hold HTTP/1.1\r\nHost: x\r\n\r\n")
        other = client.get("/v1/notifications")
        backend.release.set()

    assert other.status_code == 200
