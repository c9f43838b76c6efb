"""Run relay and consumers through schedules of crashes, duplicates, delays and losses; print the seed that breaks them."""

from __future__ import annotations

import argparse
import os
import secrets
import sys

from chassis.testing.simulation.explore import Report, explore
from chassis.testing.simulation.plants import PLANTS, planted
from chassis.testing.simulation.run import Outcome, run

SEEDS = 2**40
TOLD = "reproduce with: scripts/simulate --seed {seed}{plant}"


def main(arguments: list[str]) -> int:
    """0 when every promise was kept, 1 when one was broken."""
    given = _parser().parse_args(arguments)
    if given.seed is not None:
        return _one(given.seed, given.plant)
    first = secrets.randbelow(SEEDS) if given.first is None else given.first
    print(f"{given.schedules} schedules from seed {first} on, {given.workers} processes", flush=True)
    report = explore(first, given.schedules, workers=given.workers, plant=given.plant)
    print(_summary(report))
    for seed, _ in report.broken[:1]:
        _show(_traced(seed, given.plant), whole=False)
        print(TOLD.format(seed=seed, plant=f" --plant {given.plant}" if given.plant else ""))
    return 1 if report.broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1_000, help="how many seeds (%(default)s)")
    parser.add_argument("--first", type=int, help="the first seed; drawn when not given")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--seed", type=int, help="run this one alone, and tell everything that happened")
    parser.add_argument(
        "--plant", choices=PLANTS, help="break one piece of the logic first: the simulation must find it"
    )
    return parser


def _one(seed: int, plant: str | None) -> int:
    outcome = _traced(seed, plant)
    _show(outcome, whole=True)
    return 1 if outcome.violation else 0


def _traced(seed: int, plant: str | None) -> Outcome:
    with planted(plant):
        return run(seed, traced=True)


def _show(outcome: Outcome, *, whole: bool) -> None:
    print("\n".join(outcome.schedule.lines()))
    if whole:
        print("\n".join(outcome.trace))
    print(f"{outcome.applied} effects in {outcome.seconds:.1f} s of its own time, digest {outcome.digest}")
    print(f"BROKEN {outcome.violation}" if outcome.violation else "every promise kept")


def _summary(report: Report) -> str:
    per_minute = report.schedules / report.wall_s * 60
    return (
        f"{report.schedules} schedules, {report.applied} effects, {report.deaths} processes killed,"
        f" {report.world_s / 3600:.1f} h of their own time"
        f" in {report.wall_s:.0f} s ({per_minute:.0f} a minute); broken: {len(report.broken)}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
