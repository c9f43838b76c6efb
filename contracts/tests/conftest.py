"""Check digit vectors: the copied ones always,
the complete set when it lies beside the checkout; the run says which."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

COPIED = Path(__file__).parent / "data" / "check_digit_vectors.csv"
COMPLETE = Path(__file__).parents[3] / "shared" / "data" / "check_digit_vectors.csv"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`known_vector`: one row of the vectors that are at hand."""
    if "known_vector" in metafunc.fixturenames:
        rows = _rows(COMPLETE if COMPLETE.is_file() else COPIED)
        metafunc.parametrize("known_vector", rows, ids=[f"{row['kind']}:{row['value']}" for row in rows])


@pytest.fixture
def copied_vectors() -> list[dict[str, str]]:
    """The vectors that ship with the project."""
    return _rows(COPIED)


@pytest.fixture
def complete_vectors() -> list[dict[str, str]]:
    """The complete set, or the copied one where there is no other."""
    return _rows(COMPLETE if COMPLETE.is_file() else COPIED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says which check digit vectors were at hand, so that a smaller set never passes for the complete one."""
    if COMPLETE.is_file():
        terminalreporter.write_line(f"contracts: check digit vectors: complete set ({len(_rows(COMPLETE))})")
    else:
        terminalreporter.write_line(
            f"contracts: check digit vectors: only the {len(_rows(COPIED))} that ship with the project; "
            "../shared/data/check_digit_vectors.csv is absent",
            yellow=True,
        )
