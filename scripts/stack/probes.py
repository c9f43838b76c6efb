"""Cheap questions to a server: are you ready? Each answers within a second and never raises."""

from __future__ import annotations

import http.client
import socket
import struct

TIMEOUT_S = 1.0
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"


def connects(port: int) -> bool:
    """Something listens on the loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S):
            return True
    except OSError:
        return False


def postgres_accepts(port: int) -> bool:
    """PostgreSQL lets clients in (it refuses them while it recovers)."""
    startup = b"\x00\x03\x00\x00user\x00ready\x00\x00"
    reply = _exchange(port, struct.pack("!I", len(startup) + 4) + startup)
    # R: asks for the password; E carries why not: 57P03 is "starting up".
    return reply[:1] == b"R" or (reply[:1] == b"E" and b"57P03" not in reply)


def amqp_greets(port: int) -> bool:
    """RabbitMQ has started up: it opens its listeners last."""
    return _exchange(port, AMQP_HEADER)[:1] == b"\x01"


def redis_answers(port: int, password: str) -> bool:
    """Redis takes the password and answers."""
    return b"+PONG" in _exchange(port, f"AUTH {password}\r\nPING\r\n".encode())


def http_ok(port: int, path: str, *, host: str = "127.0.0.1") -> bool:
    """A GET of the path is answered with 200."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _exchange(port: int, request: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
            connection.sendall(request)
            return connection.recv(4096)
    except OSError:
        return b""
