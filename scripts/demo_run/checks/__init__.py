"""What must hold when everything is quiet: each check compares two records that were kept independently."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice


@dataclass(frozen=True)
class Check:
    """One line of the reconciliation."""

    name: str
    ok: bool
    figures: str
    lost: int = 0
    doubled: int = 0
    examples: tuple[str, ...] = ()


EXAMPLES_MAX = 5


def examples(items: Iterable[object]) -> tuple[str, ...]:
    """A few of them, for a failed line."""
    return tuple(str(item) for item in islice(items, EXAMPLES_MAX))


def counted(
    name: str,
    figures: str,
    *,
    lost: Iterable[object] | None = None,
    doubled: Iterable[object] | None = None,
    strange: Iterable[object] = (),
) -> Check:
    """A check of what is lost, doubled, or there without a reason; nothing of the three is right."""
    losses, doubles, odd = list(lost or ()), list(doubled or ()), list(strange)
    parts = [figures]
    if lost is not None:
        parts.append(f"{len(losses):,} lost")
    if doubled is not None:
        parts.append(f"{len(doubles):,} doubled")
    if odd:
        parts.append(f"{len(odd):,} without a reason")
    found = [*losses, *doubles, *odd]
    return Check(name, not found, ", ".join(parts), len(losses), len(doubles), examples(found))
