"""A real Traefik with the real templates, before small servers that say what they were asked."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from gateway.render import Replicas, render

SERVICES = ("identity", "batches", "deliveries", "resources", "notifications", "analytics", "webhooks")
REPOSITORY = Path(__file__).resolve().parents[2]
START_S = 20.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(happens: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not happens():
        assert time.monotonic() < deadline, f"{what} within {timeout_s} s"
        time.sleep(0.05)


class Backend(ThreadingHTTPServer):
    """A service that answers with what it got; `/status/NNN` in the path makes it answer so, as a problem of its own."""

    daemon_threads = True

    def __init__(self, name: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Echo)
        self.name = name
        self.first_bytes = threading.Event()
        self.release = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection reset by the gateway is no news."""


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Backend

    def do_GET(self) -> None:
        body = self.read_body()
        path = self.path.split("?")[0]
        if path.endswith("/events"):
            self.stream()
            return
        if path.endswith("/hold"):
            self.server.release.wait(START_S)
        status = int(path.rsplit("/status/", 1)[1]) if "/status/" in path else 200
        answer = {
            "service": self.server.name,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body_bytes": len(body),
        }
        self.send(status, json.dumps(answer).encode())

    do_POST = do_GET  # noqa: N815  # the name http.server looks for

    def read_body(self) -> bytes:
        length = int(self.headers.get("content-length") or 0)
        start = self.rfile.read(min(length, 1000))
        if length:
            self.server.first_bytes.set()
        return start + self.rfile.read(length - len(start))

    def send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/problem+json" if status >= 400 else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Powered-By", "tests")
        self.send_header("RateLimit", "limit=1")
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: first\n\n")
        self.wfile.flush()
        self.server.release.wait(START_S)
        self.wfile.write(b"data: second\n\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


@dataclass
class Gateway:
    """A running gateway and the services behind it."""

    url: str
    internal_url: str
    home: Path
    backends: dict[str, Backend]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20)

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(10)
        for backend in self.backends.values():
            backend.close()


def start_gateway(home: Path, *, rate_per_s: int = 2000, rate_burst: int = 4000) -> Gateway:
    public, internal, problems = free_port(), free_port(), free_port()
    backends = {service: Backend(service) for service in SERVICES}
    static = render(
        home,
        public_address=f"127.0.0.1:{public}",
        internal_address=f"127.0.0.1:{internal}",
        problems_url=f"http://127.0.0.1:{problems}",
        services={name: Replicas([f"http://127.0.0.1:{one.port}"], one.port) for name, one in backends.items()},
        access_log=home / "access.log",
        rate_per_s=rate_per_s,
        rate_burst=rate_burst,
    )
    gateway = Gateway(f"http://127.0.0.1:{public}", f"http://127.0.0.1:{internal}", home, backends)
    serve = ["uvicorn", "gateway.problems:app", "--port", str(problems), "--lifespan", "off", "--no-access-log"]
    traefik = str(Path(sys.executable).with_name("traefik"))
    with (home / "processes.log").open("wb") as log:
        for command in ([sys.executable, "-m", *serve], [traefik, f"--configFile={static}"]):
            gateway.processes.append(subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log))
    with httpx.Client() as client:
        eventually(lambda: answers(client, f"http://127.0.0.1:{problems}/ping"), "the problems answer")
        eventually(lambda: answers(client, f"{gateway.url}/v1/batches"), "the gateway routes")
    return gateway


def answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = start_gateway(tmp_path_factory.mktemp("gateway"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def narrow_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One that admits five requests and then one per second."""
    running = start_gateway(tmp_path_factory.mktemp("narrow"), rate_per_s=1, rate_burst=5)
    yield running
    running.stop()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client
