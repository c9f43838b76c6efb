"""Crashes are for tests: named places, and nothing of it in a process that was started in the usual way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import chassis
import pytest
from chassis import crashpoints
from chassis.testing import crashing


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The signals that this process sent itself."""
    sent: list[int] = []
    monkeypatch.setattr(crashing.os, "kill", lambda _, sign: sent.append(sign))
    yield sent
    crashpoints.install(None)


def test_it_dies_at_the_place_and_the_passing_that_were_told(
    killed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before, not elsewhere; by the signal that was told, KILL unless one was."""
    monkeypatch.setenv("VAJ_TEST_CRASH", "outbox.confirmed:2,outbox.read:1:STOP,command.committed")
    crashing.crash_as_told()

    for place in ("outbox.confirmed", "consumer.handled", "outbox.read", "outbox.confirmed", "command.committed"):
        crashpoints.reached(place)

    assert killed == [signal.SIGSTOP, signal.SIGKILL, signal.SIGKILL]


def test_a_place_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt place would be a fault that never comes."""
    monkeypatch.setenv("VAJ_TEST_CRASH", "outbox.confirmd")

    with pytest.raises(SystemExit, match="no place to crash"):
        crashing.crash_as_told()


def test_nothing_is_installed_unless_told(killed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable the places are nothing."""
    monkeypatch.delenv("VAJ_TEST_CRASH", raising=False)
    crashing.crash_as_told()
    crashpoints.reached("outbox.read")

    assert killed == []


def test_every_place_is_passed_somewhere_and_production_reads_no_variable() -> None:
    """A place that no code passes cannot be tested; the variable is known to `chassis.testing` alone."""
    sources = {path: path.read_text() for path in Path(chassis.__file__).parent.rglob("*.py")}
    production = {path: text for path, text in sources.items() if "testing" not in path.parts}
    others = "".join(text for path, text in production.items() if path.name != "crashpoints.py")

    assert {name for name in crashpoints.NAMES if f'"{name}"' not in others} == set()
    assert [path for path, text in production.items() if "VAJ_TEST_" in text] == []
