"""`scripts/bench [NAME] [--json FILE]`: a line per target; exit 1 when one is short."""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.benchmarks import api, loads, matching, messaging, path, report, rest, undelivered, webhooks

BENCHES = {
    "api": api.run,
    "loads": loads.run,
    "messaging": messaging.run,
    "matching": matching.run,
    "path": path.run,
    "rest": rest.run,
    "webhooks": webhooks.run,
    "undelivered": undelivered.run,
}


def main() -> int:
    """Run one bench, or all."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=list(BENCHES), help="one of them; without it all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the lines as JSON too")
    given = parser.parse_args()
    targets = [target for name, run in BENCHES.items() if given.name in (None, name) for target in run()]
    if given.json is not None:
        report.write(given.json, targets)
    return 0 if all(target.ok for target in targets) else 1


if __name__ == "__main__":
    raise SystemExit(main())
