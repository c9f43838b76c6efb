"""How long things took: figures by name, and the percentiles of them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


def percentile(figures: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of sorted or unsorted figures; 0 when there are none."""
    ordered = sorted(figures)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


@dataclass(frozen=True)
class Summary:
    """What is told of one kind of request."""

    name: str
    count: int
    p50_ms: float
    p95_ms: float


@dataclass
class Timings:
    """Seconds per kind of request, and how often something had to be asked again, by reason."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    again: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, seconds: float) -> None:
        """One answer."""
        self.seconds[name].append(seconds)

    def summaries(self) -> Iterable[Summary]:
        """Every kind, the most frequent first."""
        for name, figures in sorted(self.seconds.items(), key=lambda item: -len(item[1])):
            yield Summary(name, len(figures), percentile(figures, 0.5) * 1000, percentile(figures, 0.95) * 1000)
