"""What the demo tells at its end: what was made, how fast, how far events lag, and where to look further."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts.demo_run.lag import Lag
from scripts.demo_run.timings import Timings

ROUTES_SHOWN = 30
WIDTH_ELSEWHERE = 150  # in a file or a log lines are not wrapped at 80


def console() -> Console:
    """The terminal as it is; elsewhere wide enough for every table."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH_ELSEWHERE)


@dataclass(frozen=True)
class Fact:
    """One line of what was made."""

    what: str
    count: int
    note: str = ""


def made(console: Console, facts: Iterable[Fact]) -> None:
    """The table of what was made."""
    table = Table("made through the gateway", "count", "", box=None, pad_edge=False, title_justify="left")
    table.columns[1].justify = "right"
    for fact in facts:
        table.add_row(fact.what, f"{fact.count:,}", fact.note)
    _show(console, table)


def scenes(console: Console, told: Iterable[tuple[str, str]]) -> None:
    """The table of what went wrong, and how it ended."""
    table = Table("second act", "what happened", box=None, pad_edge=False)
    for title, what in told:
        table.add_row(title, what)
    _show(console, table)


def requests(console: Console, timings: Timings) -> None:
    """p50 and p95 of every kind of request."""
    table = Table("request", "count", "p50 ms", "p95 ms", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    summaries = list(timings.summaries())
    for one in summaries[:ROUTES_SHOWN]:
        table.add_row(one.name, f"{one.count:,}", f"{one.p50_ms:.1f}", f"{one.p95_ms:.1f}")
    total = sum(one.count for one in summaries)
    table.add_row("all", f"{total:,}", "", "")
    _show(console, table)
    for reason, count in timings.again.most_common():
        console.print(f"asked again {count:,} times: {reason}", highlight=False)


def lags(console: Console, found: Iterable[Lag]) -> None:
    """How long events take to have their effect."""
    table = Table("event lag", "count", "p50 ms", "p95 ms", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for lag in found:
        table.add_row(lag.name, f"{lag.count:,}", lag.shown(lag.p50_ms), lag.shown(lag.p95_ms))
    _show(console, table)


def addresses(console: Console, settings: Mapping[str, str], credentials: Path, receipts: Path) -> None:
    """Where to look, and how to stop."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in (
        ("public address", settings["VAJ_PUBLIC_URL"]),
        ("API description", f"{settings['VAJ_PUBLIC_URL']}/openapi/batches.json, and so for each service"),
        ("people and passwords", f"{credentials} (readable by you only)"),
        ("e-mails", settings["VAJ_MAILDIR"]),
        ("webhooks received", str(receipts)),
        ("logs", f"{settings['VAJ_LOGS']}   scripts/logs NAME"),
        ("again", "scripts/demo   scripts/reconcile"),
        ("stop", "scripts/down"),
    ):
        table.add_row(name, value)
    _show(console, table)


def _show(console: Console, table: Table) -> None:
    console.print()
    console.print(table, highlight=False, soft_wrap=True)
