"""How long an event takes from its commit to its effect, at each consumer and at the partner's receiver."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import httpx

from scripts.demo_run.receiver import Receipt, first_arrivals
from scripts.demo_run.stack import SERVICES
from scripts.demo_run.timings import percentile

METRIC = "consumer_lag_seconds_bucket"
Buckets = dict[float, float]  # upper bound in seconds -> how many are at or below it


@dataclass(frozen=True)
class Lag:
    """Percentiles of one way; those of a histogram are upper bounds."""

    name: str
    count: int
    p50_ms: float
    p95_ms: float
    bound: bool = False

    def shown(self, figure_ms: float) -> str:
        """The figure, or the bucket's bound it is below."""
        if math.isinf(figure_ms):
            return "> 10,000"
        return f"≤ {figure_ms:,.0f}" if self.bound else f"{figure_ms:,.1f}"


def at_receiver(receipts: list[Receipt], *, since: str) -> Lag:
    """From the event's time to the first arrival of its webhook, for events of this run."""
    figures = [receipt.lag_s * 1000 for receipt in first_arrivals(receipts) if receipt.event_time >= since]
    return Lag("event → webhook received", len(figures), percentile(figures, 0.5), percentile(figures, 0.95))


async def histograms(settings: Mapping[str, str]) -> dict[str, Buckets]:
    """The lag histogram of every consumer, by `service.consumer`, since its process started."""
    found: dict[str, Buckets] = defaultdict(dict)
    async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
        for service in SERVICES:
            text = (await http.get(f"{settings[f'VAJ_{service.upper()}_OPS_URL']}/metrics")).text
            for line in text.splitlines():
                if line.startswith(METRIC + "{"):
                    labels, value = line.removeprefix(METRIC).split("} ")
                    named = dict(part.split("=", 1) for part in labels.strip("{").split(","))
                    consumer, bound = named["consumer"].strip('"'), named["le"].strip('"')
                    found[f"{service}.{consumer}"][float(bound)] = float(value.split()[0])
    return found


def of_consumers(before: Mapping[str, Buckets], after: Mapping[str, Buckets]) -> Iterable[Lag]:
    """What each consumer took between two readings."""
    for name, buckets in sorted(after.items()):
        start = before.get(name, {})
        grown = {bound: count - start.get(bound, 0.0) for bound, count in sorted(buckets.items())}
        total = grown.get(math.inf, 0.0)
        if total > 0:
            yield Lag(f"event → {name}", int(total), _bound(grown, 0.5), _bound(grown, 0.95), bound=True)


def _bound(grown: Buckets, share: float) -> float:
    total = grown[math.inf]
    return next(bound for bound, count in grown.items() if count >= share * total) * 1000
