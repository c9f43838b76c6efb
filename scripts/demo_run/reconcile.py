"""The reconciliation of a running stack: 0 lost, 0 doubled, ledger conserved — or a line that says what is wrong.

Compares the producers' event stores with everything that should follow from them. `scripts/reconcile` runs it alone;
the demo and the end-to-end tests call `reconcile`. Exit code 0 when every line is ok, 1 when one is not, 2 when it could
not be made at all.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from scripts.demo_run import admin, stack, state
from scripts.demo_run import evidence as reading
from scripts.demo_run.checks import Check, dashboard, events, goods, past, people, webhooks
from scripts.demo_run.client import Caller, Gateway, Person, Refused
from scripts.demo_run.insiders import Insiders
from scripts.demo_run.quiet import DEADLINE_S, NeverQuiet, until_quiet
from scripts.demo_run.receiver import RECEIPTS_FILE, load_receipts
from scripts.demo_run.report import console as report_console
from scripts.demo_run.timings import Timings

FAILED, IMPOSSIBLE = 1, 2
LOOKS_MAX = 3  # a timer may fire while records are compared: then they are compared again


@dataclass(frozen=True)
class Report:
    """Every check, and how long it took until the stack was quiet."""

    checks: tuple[Check, ...]
    quiet_after_s: float
    took_s: float

    @property
    def ok(self) -> bool:
        """Nothing lost, nothing doubled, nothing else wrong."""
        return all(check.ok for check in self.checks)

    @property
    def lost(self) -> int:
        """Effects that are missing, over all checks."""
        return sum(check.lost for check in self.checks)

    @property
    def doubled(self) -> int:
        """Effects that came more than once, over all checks."""
        return sum(check.doubled for check in self.checks)


async def reconcile(
    settings: Mapping[str, str],
    reader: Caller,
    *,
    receipts: Path | None = None,
    repeats_allowed: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Report:
    """Wait until the stack is quiet and compare.

    `settings` are those of stack.env; `reader` may see every organization's dashboard; `receipts` is the file that
    receivers of webhooks write. A webhook may come twice when its sender is killed between the request and its record:
    with `repeats_allowed` that counts for nothing, as receivers know it by its id.
    Raises `NeverQuiet` when something still moves after the deadline.
    """
    began = time.monotonic()
    async with AsyncExitStack() as leaving:
        insiders = await Insiders.start(settings)
        leaving.push_async_callback(insiders.stop)
        evidence = await leaving.enter_async_context(reading.opened(settings))
        gateway = Gateway(settings["VAJ_PUBLIC_URL"], Timings())
        leaving.push_async_callback(gateway.close)
        bindings = await insiders.bindings()
        quiet_after_s = await until_quiet(evidence, settings, bindings, deadline_s=deadline_s)
        checks: list[Check] = []
        for _ in range(LOOKS_MAX):
            folding = asyncio.create_task(insiders.folds())
            await evidence.read_stores()
            checks = await events.check(evidence, bindings)
            checks += await dashboard.check(evidence, gateway, reader)
            checks += await people.check(evidence, Path(settings["VAJ_MAILDIR"]))
            kept = load_receipts(receipts) if receipts else []
            checks += await webhooks.check(evidence, kept, repeats_allowed=repeats_allowed)
            checks += await goods.check(evidence, await folding)
            checks += await past.check(evidence, gateway, reader, insiders.past)
            if not await evidence.went_on():
                break
            await until_quiet(evidence, settings, bindings, deadline_s=deadline_s)
    return Report(tuple(checks), quiet_after_s, time.monotonic() - began)


def show(console: Console, report: Report) -> None:
    """A line per check, then the verdict."""
    console.print(f"\nreconciliation (quiet after {report.quiet_after_s:.1f} s)", highlight=False)
    for check in report.checks:
        mark = "[green]ok[/]  " if check.ok else "[red]FAIL[/]"
        console.print(f"{mark} {check.name:<42} {check.figures}", highlight=False, soft_wrap=True)
        for example in check.examples:
            console.print(f"       {example}", highlight=False, markup=False, soft_wrap=True)
    verdict = "ok" if report.ok else "FAIL"
    console.print(
        f"reconciliation: {verdict} — {report.lost:,} lost, {report.doubled:,} doubled,"
        f" {sum(check.ok for check in report.checks)} of {len(report.checks)} checks hold ({report.took_s:.1f} s)",
        highlight=False,
    )


def _reader(folder: Path, email: str | None) -> Person:
    if email is not None:
        return Person(email, sys.stdin.readline().rstrip("\n"), "reader")
    path = folder / state.STATE_FILE
    return state.person_of(admin.first_admin(state.load(path), path))


def main() -> int:
    """Reconcile the running stack and say so."""
    parser = argparse.ArgumentParser(prog="scripts/reconcile", description=__doc__)
    parser.add_argument(
        "--email", help="who asks for the dashboards: a coordinator or admin; password on standard input"
    )
    parser.add_argument(
        "--deadline", type=float, default=DEADLINE_S, metavar="S", help="how long it may take to be quiet"
    )
    parser.add_argument(
        "--repeats-allowed",
        action="store_true",
        help="webhooks may have come twice: their sender was killed between a request and its record",
    )
    given = parser.parse_args()
    console = report_console()
    folder = stack.home()
    try:
        settings, reader = stack.settings(folder), _reader(folder, given.email)
        report = asyncio.run(
            reconcile(
                settings,
                reader,
                receipts=folder / RECEIPTS_FILE,
                repeats_allowed=given.repeats_allowed,
                deadline_s=given.deadline,
            )
        )
    except (stack.NotRunning, NeverQuiet, Refused, OSError, subprocess.CalledProcessError) as error:
        console.print(f"reconcile: {error}", highlight=False, markup=False)
        return FAILED if isinstance(error, NeverQuiet) else IMPOSSIBLE
    show(console, report)
    return 0 if report.ok else FAILED


if __name__ == "__main__":
    sys.exit(main())
