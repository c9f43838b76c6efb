"""Golden examples of what services store, in `services/<name>/tests/stored`: adds those that are missing."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from chassis.testing import stored
from contracts.topology import SERVICES

from scripts.openapi import TOLD

ROOT = Path(__file__).resolve().parents[1] / "services"


def main() -> int:
    """Write what is missing and say where; what is there is never touched."""
    os.environ.update(TOLD)
    for name in SERVICES:
        service = importlib.import_module(f"{name}.main").build()
        folder = ROOT / name / "tests" / "stored"
        for written in stored.write(folder, service.repositories):
            print(f"wrote: services/{name}/tests/stored: {written}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
