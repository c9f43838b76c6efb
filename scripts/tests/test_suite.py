"""How the runs of `scripts/test` are chosen and counted."""

from __future__ import annotations

from pathlib import Path

from scripts.suite import Tally, split

REPORT = '<testsuites><testsuite tests="{tests}" failures="{failures}" errors="{errors}" skipped="0"/></testsuites>'


def report(folder: Path, tests: int, failures: int = 0, errors: int = 0) -> Path:
    file = folder / "report.xml"
    file.write_text(REPORT.format(tests=tests, failures=failures, errors=errors))
    return file


def test_runs_are_summed_up(tmp_path: Path) -> None:
    """Passed and failed tests of all runs add up; an error counts as failed."""
    tally = Tally()
    tally.add(report(tmp_path, 10), "one", 0)
    tally.add(report(tmp_path, 5, failures=1, errors=1), "two", 1)

    assert tally.line() == "13 passed, 2 failed"
    assert not tally.succeeded()


def test_no_test_is_no_success() -> None:
    """A run in which nothing was tested has not succeeded."""
    assert not Tally().succeeded()


def test_a_run_that_breaks_is_no_success(tmp_path: Path) -> None:
    """A pytest that ends badly without a failed test, or leaves no report, is named."""
    tally = Tally()
    tally.add(report(tmp_path, 3), "one", 0)
    tally.add(tmp_path / "missing.xml", "two", 3)

    assert tally.line() == "3 passed, 0 failed, two broken"
    assert not tally.succeeded()


def test_paths_come_before_options() -> None:
    """Leading arguments that exist are paths, with or without a test's name; everything from the first other one is pytest's."""
    assert split(["services/batches", "-k", "contracts"]) == ([Path("services/batches")], ["-k", "contracts"])
    assert split(["scripts/suite.py::test"]) == ([Path("scripts/suite.py::test")], [])
    assert split(["-x"]) == ([], ["-x"])
