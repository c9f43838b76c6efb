"""`bench rest`: how long `up` takes when installed, and what the whole stack costs while nobody asks anything."""

from __future__ import annotations

import os
import time
from pathlib import Path

from scripts.benchmarks.report import Target, bounded, show
from scripts.stack import REPOSITORY, Stack

HOME = REPOSITORY / ".local" / "bench"
SETTLE_S = 15
WATCH_S = 30


def run() -> list[Target]:
    """Start a stack that was prepared before, let it settle, watch it."""
    stack = Stack(HOME)
    stack.up()
    stack.down()
    started = time.monotonic()
    stack.up()
    up_s = time.monotonic() - started
    try:
        time.sleep(SETTLE_S)
        before = _ticks(stack)
        time.sleep(WATCH_S)
        after = _ticks(stack)
        share = sum(after[pid] - before[pid] for pid in after if pid in before) / os.sysconf("SC_CLK_TCK") / WATCH_S
        targets = [
            bounded("scripts/up when installed", up_s, at_most=30, unit="s"),
            bounded("memory at rest (PSS)", sum(map(_pss_mib, after)), at_most=1536, unit="MiB"),
            bounded("processor at rest", share * 100, at_most=5, unit="% core"),
        ]
    finally:
        stack.down()
    for target in targets:
        show(target)
    return targets


def _ticks(stack: Stack) -> dict[int, int]:
    """Processor time of every process of the stack, by the mark in its environment."""
    mark = f"VAJ_STACK_HOME={stack.home}".encode()
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    found[int(folder.name)] = int(fields[11]) + int(fields[12])
            except OSError:
                continue
    return found


def _pss_mib(pid: int) -> float:
    """Proportional set size: shared pages are counted once over all processes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)
