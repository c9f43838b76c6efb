"""Processes that die where it hurts: `VAJ_TEST_CRASH=outbox.confirmed:3 python -m chassis.testing.crashing SERVICE ROLE`.

The variable names a place (`chassis.crashpoints`), at which passing of it to die (1 unless told) and by which signal
(KILL unless told; STOP pauses instead): `outbox.read:1:STOP`. Several are separated by commas. Only here is it read:
a service started in the usual way knows nothing of it.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections import Counter
from collections.abc import Sequence

from chassis import crashpoints


def crash_as_told() -> None:
    """Have this process die at the places that `VAJ_TEST_CRASH` names; without it nothing is installed."""
    told = [_place(one) for one in os.environ.get("VAJ_TEST_CRASH", "").split(",") if one]
    if not told:
        return
    unknown = {name for name, _, _ in told} - crashpoints.NAMES
    if unknown:
        sys.exit(f"there is no place to crash called {', '.join(sorted(unknown))}")
    passed: Counter[str] = Counter()

    def hook(name: str) -> None:
        passed[name] += 1
        for place, number, sign in told:
            if place == name and passed[name] == number:
                os.kill(os.getpid(), sign)

    crashpoints.install(hook)


def _place(told: str) -> tuple[str, int, signal.Signals]:
    name, number, sign = (told.split(":") + ["1", "KILL"][told.count(":") :])[:3]
    return name, int(number), signal.Signals[f"SIG{sign}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a real service, which dies as told."""
    service, *rest = sys.argv[1:] if arguments is None else arguments
    crash_as_told()
    sys.argv = [service, *rest]
    runpy.run_module(service, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
