"""One instance of the stack: its folder, the ports it keeps and the secrets it was born with."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICES = ("identity", "batches", "deliveries", "resources", "notifications", "analytics", "webhooks")
PARTS = ("postgres", "amqp", "erlang", "epmd", "redis", "smtp", "problems", "gateway_internal")
PUBLIC_PORT = 8080

# Below the kernel's ephemeral range (32768+): a port kept there could be taken by an outgoing connection while its server restarts.
PORT_RANGE = range(20000, 32000)
# A Unix socket path may have 107 bytes; the supervisor adds a suffix while it binds.
SOCKET_PATH_BYTES_MAX = 90


class PortBusy(Exception):
    """The public port is taken by somebody else."""


@dataclass(frozen=True)
class Instance:
    """Folder, ports and secrets; everything else about an instance follows from these."""

    home: Path
    ports: Mapping[str, int]
    secrets: Mapping[str, str]
    public_host: str

    @property
    def key(self) -> str:
        """A short name no other instance on this machine has."""
        return hashlib.sha256(str(self.home).encode()).hexdigest()[:10]

    @property
    def logs(self) -> Path:
        """Where every part writes its log."""
        return self.home / "logs"

    @property
    def socket(self) -> Path:
        """The supervisor's control socket, short enough for a socket address."""
        inside = self.home / "supervisor.sock"
        if len(str(inside)) <= SOCKET_PATH_BYTES_MAX:
            return inside
        return Path(tempfile.gettempdir()) / f"vouajudar-{self.key}.sock"

    @property
    def public_url(self) -> str:
        """Where the gateway answers."""
        return f"http://127.0.0.1:{self.ports['public']}"

    def service_ports(self, service: str) -> tuple[int, int]:
        """The API port and the operations port of a service."""
        return self.ports[f"{service}_api"], self.ports[f"{service}_ops"]


def home_from(environment: Mapping[str, str]) -> Path:
    """The instance folder the caller means: `VAJ_HOME`, relative to the repository, or `.local/main`."""
    return (REPOSITORY / environment.get("VAJ_HOME", ".local/main")).resolve()


def open_instance(home: Path, environment: Mapping[str, str], *, starting: bool) -> Instance:
    """The instance in this folder; when starting, its ports are free ones and its secrets exist.

    Raises PortBusy when the public port is wanted and taken.
    """
    home.mkdir(parents=True, exist_ok=True)
    (home / "logs").mkdir(exist_ok=True)
    public_host = environment.get("VAJ_BIND") or ("0.0.0.0" if _is_default(home) else "127.0.0.1")  # noqa: S104
    ports = _read(home / "ports.json")
    if starting:
        ports = _free_ports(ports, public=_wanted_public(home, environment), host=public_host)
        _write(home / "ports.json", ports)
    return Instance(home, {name: int(port) for name, port in ports.items()}, _secrets(home), public_host)


def _is_default(home: Path) -> bool:
    return home == REPOSITORY / ".local/main"


def _wanted_public(home: Path, environment: Mapping[str, str]) -> int | None:
    if "VAJ_PORT" in environment:
        return int(environment["VAJ_PORT"])
    return PUBLIC_PORT if _is_default(home) else None


def _port_names() -> list[str]:
    return [*PARTS, *(f"{service}_{kind}" for service in SERVICES for kind in ("api", "ops"))]


def _free_ports(kept: Mapping[str, int], *, public: int | None, host: str) -> dict[str, int]:
    """Every port the stack needs: the kept one where it is still free, else another."""
    ports: dict[str, int] = {}
    if public is not None:
        if not is_free(public, host):
            raise PortBusy(
                f"port {public} is already in use on {host}; choose another one: VAJ_PORT={public + 1} scripts/up"
            )
        ports["public"] = public
    for name in [*(["public"] if public is None else []), *_port_names()]:
        port = kept.get(name)
        while port is None or port in ports.values() or not is_free(port):
            port = secrets.choice(PORT_RANGE)
        ports[name] = port
    return ports


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
        return True


def _secrets(home: Path) -> dict[str, str]:
    """Passwords and keys, made once and kept; a part that is new since then gets its own."""
    path = home / "secrets.json"
    known = _read(path)
    passwords = [f"database_{name}" for name in ("admin", *SERVICES)]
    wanted = [*passwords, "broker", "redis", "internal_token", *(f"key_{name}" for name in SERVICES)]
    missing = [name for name in wanted if name not in known]
    if missing:
        known |= {name: _key() if name.startswith("key_") else secrets.token_urlsafe(24) for name in missing}
        _write(path, known)
    return {name: str(value) for name, value in known.items()}


def _key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _write(path: Path, content: Mapping[str, object]) -> None:
    write_private(path, json.dumps(content, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace a file in one step; nobody but its owner can read it at any moment."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
