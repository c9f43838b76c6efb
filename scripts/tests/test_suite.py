"""How the runs of `scripts/test` are chosen and counted."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from scripts.deep import Tried, examples_of, machines
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


def statistics(folder: Path, *, passing: int) -> Path:
    """A report with what Hypothesis says of one test."""
    said = base64.b64encode(f"  - {passing} passing, 0 failing, and 7 invalid test cases".encode()).decode()
    file = folder / "deep.xml"
    file.write_text(f'<testsuites><property name="hypothesis-statistics-x" value="{said}"/></testsuites>')
    return file


def test_a_machine_that_ran_too_seldom_has_not_been_tried(tmp_path: Path) -> None:
    """Only examples that went through count, and without a report there were none."""
    enough = Tried("a.py::b", statistics(tmp_path, passing=5_000), 0, 1.0, "")
    assert (enough.examples, enough.enough) == (5_000, True)

    assert not Tried("a.py::b", statistics(tmp_path, passing=4_999), 0, 1.0, "").enough
    assert not Tried("a.py::b", statistics(tmp_path, passing=5_000), 1, 1.0, "").enough
    assert examples_of(tmp_path / "missing.xml") == 0


def test_every_state_machine_is_a_deep_one() -> None:
    """Whatever runs a state machine as a test is chosen by `--deep`, and nothing else is."""
    services = Path(__file__).parents[2] / "services"
    source = {file.name: file.read_text() for file in services.glob("*/tests/test_*.py")}
    with_machines = {name for name, text in source.items() if "Machine.TestCase" in text}

    chosen = machines([], [], os.environ | {"PYTHONPATH": str(services.parent)})

    assert sorted(Path(test.partition("::")[0]).name for test in chosen) == sorted(with_machines)
    assert len(chosen) == len(with_machines) >= 5
