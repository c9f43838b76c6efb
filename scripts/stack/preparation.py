"""Prepare all services' databases and queues in one process: seven times the same libraries need loading only once.

Reads `{service: environment}` as JSON from standard input and prepares them in that order; the exit code is 10 plus the index of the
one that failed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback

import uvloop
from chassis.app import prepare

from scripts.stack.failure import PREPARATION_FAILED


def main() -> int:
    """`migrate` of each service in turn."""
    told: dict[str, dict[str, str]] = json.load(sys.stdin)
    before = dict(os.environ)
    for index, (service, environment) in enumerate(told.items()):
        os.environ.clear()
        os.environ.update(before | environment)
        try:
            uvloop.run(prepare(importlib.import_module(f"{service}.main").build()))
        except Exception:
            traceback.print_exc()
            return PREPARATION_FAILED + index
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
