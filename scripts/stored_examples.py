"""Golden examples of what services store, in `services/<name>/tests/stored`: adds those that are missing.

With `--check` nothing is written: it names golden examples of events that main ever had and that are gone. That they are
read is for each service's tests.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from chassis.testing import stored
from contracts.history import History, history
from contracts.topology import SERVICES

from scripts.openapi import TOLD

ROOT = Path(__file__).resolve().parents[1] / "services"
STORED = "tests/stored"


def forgotten(root: Path, shipped: History) -> Iterator[str]:
    """Golden examples of stored events that were there once; of states the newest shapes are enough."""
    for version in shipped.versions:
        if Path(version.path).parent.name == "stored":
            present = root / version.path
            kept = json.loads(present.read_bytes()) if present.is_file() else []
            lost = sum(example not in kept for example in json.loads(version.text))
            if lost:
                yield f"{version.path}: {lost} golden examples of {version.origin} are gone; rows like them are not"


def main(root: Path = ROOT) -> int:
    """Write what is missing and say where; with `--check` 1 when something that is kept for ever is gone."""
    if "--check" in sys.argv[1:]:
        shipped = history(root, [f"{name}/{STORED}" for name in SERVICES])
        found = list(forgotten(root, shipped))
        for line in (*(f"note: {note}" for note in shipped.notes), *found):
            print(line)
        return 1 if found else 0
    os.environ.update(TOLD)
    for name in SERVICES:
        service = importlib.import_module(f"{name}.main").build()
        for written in stored.write(root / name / STORED, service.repositories):
            print(f"wrote: services/{name}/{STORED}: {written}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
