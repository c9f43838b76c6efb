"""The page of faults says what is tested, and nothing else."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = [REPOSITORY / "tests-e2e/failures", *(REPOSITORY / "services").glob("*/tests")]
ROW = re.compile(r"^\| ([^|]+) \| (`test_[^|]+) \|", re.MULTILINE)


def documented() -> dict[str, set[str]]:
    """Fault → tests, by the page."""
    page = (REPOSITORY / "docs/faults.md").read_text().partition("\n## ")[0]  # after it come other tables
    return {fault: set(re.findall(r"`(test_\w+)`", tests)) for fault, tests in ROW.findall(page)}


def marked() -> dict[str, set[str]]:
    """Fault → tests, by the marks of the tests."""
    found = defaultdict(set)
    for path in (path for folder in FOLDERS for path in folder.glob("test_*.py")):
        tree = ast.parse(path.read_text())
        everywhere = [fault for node in tree.body if isinstance(node, ast.Assign) for fault in faults_in(node)]
        for node in tree.body:
            if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for fault in [*everywhere, *(name for mark in node.decorator_list for name in faults_in(mark))]:
                    found[fault].add(node.name)
    return dict(found)


def faults_in(tree: ast.AST) -> list[str]:
    """The names in `pytest.mark.fault("…")`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [str(ast.literal_eval(call.args[0])) for call in calls if ast.unparse(call.func) == "pytest.mark.fault"]


def test_every_fault_has_its_tests_and_every_test_its_fault() -> None:
    """In the same words."""
    assert documented() == marked()
    assert len(documented()) >= 23
