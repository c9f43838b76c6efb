"""Targets: a figure, the floor it is compared with, the ratio, and whether that is enough."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Target:
    """One line: `ratio` is figure ÷ floor; `at_least` or `at_most` says which way is good."""

    name: str
    figure: float
    unit: str
    floor: float
    limit: float
    at_least: bool

    @property
    def ratio(self) -> float:
        """The figure in floors."""
        return self.figure / self.floor

    @property
    def ok(self) -> bool:
        """The target is met."""
        return self.ratio >= self.limit if self.at_least else self.ratio <= self.limit


def compared(
    name: str, figures: Sequence[float], floors: Sequence[float], *, at_least: float, unit: str = "req/s"
) -> Target:
    """Medians of interleaved rounds against each other."""
    return Target(name, statistics.median(figures), unit, statistics.median(floors), at_least, at_least=True)


def bounded(name: str, figure: float, *, at_most: float, unit: str) -> Target:
    """An absolute bound: the floor is the bound itself and the ratio may be 1 at most."""
    return Target(name, figure, unit, at_most, 1.0, at_least=False)


def show(target: Target) -> None:
    """Print the line as soon as it is known."""
    sign = "≥" if target.at_least else "≤"
    print(
        f"{target.name:<44} {target.figure:>10.2f} {target.unit:<6} floor {target.floor:>10.2f}  ratio {target.ratio:>6.2f}"
        f"  target {sign} {target.limit:<5.2f} {'ok' if target.ok else 'short'}",
        flush=True,
    )


def write(path: Path, targets: Sequence[Target]) -> None:
    """The same lines for machines."""
    lines = [asdict(t) | {"ratio": t.ratio, "ok": t.ok} for t in targets]
    path.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")
