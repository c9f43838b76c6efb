"""Where the running instance is: `stack.env` of its folder, as scripts/up leaves it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICES = ("identity", "batches", "deliveries", "resources", "notifications", "analytics", "webhooks")


class NotRunning(Exception):
    """There is no instance to talk to."""


def home() -> Path:
    """The instance folder the caller means: `VAJ_HOME`, relative to the repository, or `.local/main`."""
    return (REPOSITORY / os.environ.get("VAJ_HOME", ".local/main")).resolve()


def settings(folder: Path) -> dict[str, str]:
    """Every `VAJ_…` of the instance's stack.env."""
    path = folder / "stack.env"
    if not path.exists():
        raise NotRunning(f"{path} is not there: start the stack with scripts/up")
    found = {}
    for line in path.read_text().splitlines():
        name, _, value = line.removeprefix("export ").partition("=")
        found[name] = "".join(shlex.split(value))
    return found
