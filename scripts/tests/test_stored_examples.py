"""Golden examples of stored events are kept for ever: rows like them are still in somebody's database."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from contracts.history import history

from scripts.stored_examples import ROOT, STORED, forgotten

KEPT = f"batches/{STORED}/BatchHeld.json"
STATE = f"batches/{STORED}/states/Batch.json"


def _git(root: Path, *arguments: str) -> None:
    told = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ["-c", "user.name=Ana", "-c", "user.email=ana@example.org"]
    subprocess.run(["git", "-C", str(root), *who, *arguments], env=os.environ | told, check=True, capture_output=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Services with two golden files, committed."""
    _write(tmp_path / KEPT, [{"quantity": 1}, {"quantity": 2}])
    _write(tmp_path / STATE, [{"held": 1}])
    _git(tmp_path, "init", "-q", "-b", "main")
    _git(tmp_path, "add", "-A")
    _git(tmp_path, "commit", "-q", "-m", "golden")
    return tmp_path


def _write(path: Path, examples: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(examples))


def _forgotten(root: Path) -> list[str]:
    return [fault.partition(" are gone")[0] for fault in forgotten(root, history(root, [f"batches/{STORED}"]))]


def test_nothing_is_forgotten_here() -> None:
    """Every golden example that main ever had of a stored event is here."""
    shipped = history(ROOT, [f"{path.name}/{STORED}" for path in ROOT.iterdir()])

    assert list(forgotten(ROOT, shipped)) == []
    assert len(shipped.versions) > 80


def test_every_service_that_stores_events_looks_at_its_own() -> None:
    """Whoever has a repository has golden examples, and a test that reads them."""
    storing = {
        path.relative_to(ROOT).parts[0]
        for path in ROOT.glob("*/src/**/*.py")
        if "chassis.repository import" in path.read_text(encoding="utf-8")
    } - {"chassis"}

    assert storing >= {"batches", "deliveries", "identity", "resources", "webhooks"}
    assert {path.relative_to(ROOT).parts[0] for path in ROOT.glob("*/tests/test_stored_events.py")} - {
        "chassis"
    } == storing
    assert {path.relative_to(ROOT).parts[0] for path in ROOT.glob(f"*/{STORED}")} == storing


def test_examples_may_be_added(root: Path) -> None:
    """More examples, in any order, forget nothing."""
    _write(root / KEPT, [{"quantity": 3}, {"quantity": 2}, {"quantity": 1}])

    assert _forgotten(root) == []


@pytest.mark.parametrize("left", [[{"quantity": 1}, {"quantity": 3}], [{"quantity": 2}], None])
def test_a_lost_example_is_named(root: Path, left: list[Any] | None) -> None:
    """An example that changed, or went with its line or its file, is missed."""
    if left is None:
        (root / KEPT).unlink()
    else:
        _write(root / KEPT, left)

    (found,) = _forgotten(root)

    assert found.startswith(f"{KEPT}: {2 if left is None else 1} golden examples of ")


def test_states_may_forget(root: Path) -> None:
    """A state's examples may go: its rows are made anew from the events."""
    _write(root / STATE, [{"held": {}}])

    assert _forgotten(root) == []
