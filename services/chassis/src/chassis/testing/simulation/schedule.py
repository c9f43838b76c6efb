"""What will happen in one run, drawn from one seed: who takes part, what is committed, what breaks and when."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

FAULT_S_MAX = 4.0  # longer than a lease
CONSUMERS = ("any", "gated", "newest")
Disturbance = Literal[
    "kill", "leave", "stop", "cut publisher", "cut consumer", "cancel consumer", "database down", "broker down",
    "broker blocks", "broker refuses", "lose a message",
]  # fmt: skip
Ill = Literal["conflicts", "not yet", "transient", "defect", "kills", "slow"]
DISTURBANCES: tuple[Disturbance, ...] = Disturbance.__args__  # type: ignore[attr-defined]
ILLS: tuple[Ill, ...] = Ill.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Change:
    """Some next versions of an aggregate, in one transaction that lasts `lasts_s`; `announced` by events with handlers."""

    at: float
    subject: int
    announced: tuple[bool, ...]
    lasts_s: float
    rolled_back: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """`target` is taken modulo those that there are."""

    at: float
    kind: Disturbance
    target: int
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Weather:
    """How likely each single step goes wrong, as long as the run is not calm."""

    slow: float = 0.0  # a flight over the network takes up to four seconds
    lost_question: float = 0.0  # a connection to the database breaks before it was asked
    lost_answer: float = 0.0  # … after the deed
    conflict: float = 0.0  # a commit is refused
    nack: float = 0.0
    late_confirm: float = 0.0
    doubled: float = 0.0  # a message leaves the retry ladder twice
    crash: float = 0.0  # a process dies at a named place of `chassis.crashpoints`
    unheard: float = 0.0  # a producer does not answer


STORM = Weather(
    slow=0.05, lost_question=0.05, lost_answer=0.05, conflict=0.1, nack=0.2, late_confirm=0.1, doubled=0.3, crash=0.15,
    unheard=0.5,
)  # fmt: skip


@dataclass(frozen=True)
class Schedule:
    """All that a seed decides beforehand; the rest is drawn, step by step, from the same seed."""

    seed: int
    relays: int
    consumers: int
    subjects: int
    calm_at: float
    prefetch: int
    batch: int
    delivery_limit: int
    weather: Weather
    changes: tuple[Change, ...]
    faults: tuple[Fault, ...]
    ills: dict[tuple[str, int, int], tuple[Ill, int]] = field(default_factory=dict)  # (consumer, subject, version)
    discards: float = 0.0  # how likely an operator discards a dead letter instead of sending it back

    def lines(self) -> list[str]:
        """For people."""
        size = f"{self.relays} relays, {self.consumers} consumers, {self.subjects} aggregates"
        weather = ", ".join(f"{name} {value:.3f}" for name, value in asdict(self.weather).items() if value)
        return [
            f"seed {self.seed}: {size}, prefetch {self.prefetch}, batches of {self.batch}, calm at {self.calm_at:.3f}",
            f"weather: {weather or 'fair'}; discards {self.discards:.2f}; delivery limit {self.delivery_limit}",
            *(f"{c.at:9.3f} change of {c.subject}: {_told(c)}" for c in self.changes),
            *(f"{f.at:9.3f} {f.kind}, target {f.target}, for {f.lasts_s:.3f} s" for f in self.faults),
            *(f"ill: {name} with {subject} v{version}: {ill}, {times} times"
              for (name, subject, version), (ill, times) in self.ills.items()),
        ]  # fmt: skip


def _told(change: Change) -> str:
    kinds = "".join("+" if announced else "-" for announced in change.announced)
    return f"{kinds} within {change.lasts_s:.3f} s{', rolled back' if change.rolled_back else ''}"


def schedule_of(seed: int) -> Schedule:
    """The same for the same seed. Each kind of trouble is left out of half of the runs, so that others show better."""
    draw = random.Random(seed)
    calm_at = draw.uniform(1, 5)
    subjects = draw.randint(1, 3)
    changes, faults = _changes(draw, subjects, calm_at), _faults(draw, calm_at)
    loses = any(fault.kind == "lose a message" for fault in faults)
    return Schedule(
        seed=seed,
        relays=draw.randint(1, 3),
        consumers=draw.randint(1, 3),
        subjects=subjects,
        calm_at=calm_at,
        prefetch=draw.randint(2, 10),
        batch=draw.randint(1, 6),
        delivery_limit=draw.choice((3, 6, 20)),
        weather=_weather(draw),
        changes=changes,
        faults=faults,
        ills=_ills(draw, changes),
        discards=0.0 if loses else draw.choice((0.0, 0.3)),  # who discards what shows a loss will never see it
    )


def _changes(draw: random.Random, subjects: int, calm_at: float) -> tuple[Change, ...]:
    found = [
        Change(
            at=draw.uniform(0, calm_at),
            subject=draw.randrange(subjects),
            announced=tuple(draw.random() < 0.8 for _ in range(draw.choice((1, 1, 2, 3)))),
            lasts_s=draw.choice((0.0, draw.uniform(0, 1))),
            rolled_back=draw.random() < 0.1,
        )
        for _ in range(draw.randint(3, 10))
    ]
    return tuple(sorted(found, key=lambda change: change.at))


def _faults(draw: random.Random, calm_at: float) -> tuple[Fault, ...]:
    kinds = [kind for kind in DISTURBANCES if draw.random() < 0.5] or ["kill"]
    found = [
        Fault(draw.uniform(0, calm_at), draw.choice(kinds), draw.randrange(6), draw.uniform(0.05, FAULT_S_MAX))
        for _ in range(draw.randint(0, 8))
    ]
    return tuple(sorted(found, key=lambda fault: fault.at))


def _weather(draw: random.Random) -> Weather:
    return Weather(**{name: draw.choice((0.0, draw.uniform(0, worst))) for name, worst in asdict(STORM).items()})


def _ills(draw: random.Random, changes: Sequence[Change]) -> dict[tuple[str, int, int], tuple[Ill, int]]:
    kinds = [ill for ill in ILLS if draw.random() < 0.5]
    versions: Counter[int] = Counter()
    for change in changes:
        versions[change.subject] += 0 if change.rolled_back else len(change.announced)
    handled = [(subject, version + 1) for subject, last in versions.items() for version in range(last)]
    if not kinds or not handled:
        return {}
    found: dict[tuple[str, int, int], tuple[Ill, int]] = {}
    for _ in range(draw.randint(0, 6)):
        ill, times = draw.choice(kinds), draw.choice((1, 2, 3, 5, 10))
        through_the_ladder = 3 * times if ill == "not yet" else times
        found[draw.choice(CONSUMERS), *draw.choice(handled)] = (ill, through_the_ladder)
    return found
