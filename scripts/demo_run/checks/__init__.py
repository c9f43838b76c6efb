"""What must hold when everything is quiet: each check compares two records that were kept independently."""

from __future__ import annotations

from dataclasses import dataclass


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


def examples(items: object) -> tuple[str, ...]:
    """A few of them, for a failed line."""
    return tuple(str(item) for item in list(items)[:EXAMPLES_MAX])  # type: ignore[call-overload]


def counted(
    name: str, figures: str, *, lost: object = (), doubled: object = (), strange: object = (), ok: bool = True
) -> Check:
    """A check of what is lost, doubled, or there without a reason; nothing of the three is right."""
    losses, doubles, odd = list(lost), list(doubled), list(strange)  # type: ignore[call-overload]
    tail = [f"{len(found):,} {word}" for found, word in ((losses, "lost"), (doubles, "doubled")) if True]
    if odd:
        tail.append(f"{len(odd):,} without a reason")
    right = ok and not (losses or doubles or odd)
    text = ", ".join([figures, *tail])
    return Check(name, right, text, len(losses), len(doubles), examples([*losses, *doubles, *odd]))
