"""Many seeds on all processors: how many runs kept every promise, and which did not."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

import structlog

from chassis.testing.simulation.plants import planted
from chassis.testing.simulation.run import run

CHUNK = 50  # seeds that a process runs before it tells
GARBAGE_AFTER = 50_000  # objects; a run leaves cycles behind, and none lasts long


@dataclass
class Report:
    """What came of some seeds."""

    schedules: int = 0
    applied: int = 0
    deaths: int = 0
    world_s: float = 0.0
    wall_s: float = 0.0
    broken: list[tuple[int, str]] = field(default_factory=list)  # seed and violation
    digests: dict[int, str] = field(default_factory=dict)

    def add(self, other: Report) -> None:
        """Count those too."""
        self.schedules += other.schedules
        self.applied += other.applied
        self.deaths += other.deaths
        self.world_s += other.world_s
        self.broken += other.broken
        self.digests |= other.digests


def explore(first: int, count: int, *, workers: int, plant: str | None = None, broken_max: int = 1) -> Report:
    """Run `count` seeds from `first` on; ends early when so many are broken."""
    began, report = time.monotonic(), Report()
    chunks = _chunks(first, count)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_be_quiet) as pool:
        running: set[Future[Report]] = set()
        while len(report.broken) < broken_max:
            while len(running) < 2 * workers and (chunk := next(chunks, None)):
                running.add(pool.submit(run_some, chunk, plant, broken_max))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for one in done:
                report.add(one.result())
        pool.shutdown(cancel_futures=True)
    report.wall_s = time.monotonic() - began
    report.broken.sort()
    return report


def _chunks(first: int, count: int) -> Iterator[Sequence[int]]:
    for start in range(first, first + count, CHUNK):
        yield range(start, min(start + CHUNK, first + count))


def run_some(seeds: Sequence[int], plant: str | None, broken_max: int) -> Report:
    """Those seeds in this process, until so many are broken."""
    report = Report()
    with planted(plant):
        for seed in seeds:
            outcome = run(seed)
            report.schedules += 1
            report.applied += outcome.applied
            report.deaths += outcome.deaths
            report.world_s += outcome.seconds
            report.digests[seed] = outcome.digest
            if outcome.violation is not None:
                report.broken.append((seed, outcome.violation))
                if len(report.broken) >= broken_max:
                    break
    return report


def _be_quiet() -> None:
    """What is logged in a world that does not exist helps nobody. For a process of its own: there is no way back."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=True
    )
    gc.freeze()  # the libraries stay
    gc.set_threshold(GARBAGE_AFTER)
