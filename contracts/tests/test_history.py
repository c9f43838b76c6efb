"""What was ever shipped is held against today's contracts: each rule with a planted history in which it is broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contracts.generate import CONTRACTS, EXAMPLES, SCHEMAS
from contracts.history import SINCE, WITHDRAWN, faults, history, main
from contracts.registry import Received, Undecodable, decode

READY = "vouajudar.batches.batch.ready.v1"
CLOSED = "vouajudar.batches.batch.closed.v1"


class Checkout:
    """A repository of its own, with the contracts of today in a folder below its root."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "contracts"
        for folder in (SCHEMAS, EXAMPLES):
            (self.root / folder).mkdir(parents=True)
        for name in ("envelope", READY, CLOSED):
            shutil.copy(CONTRACTS / SCHEMAS / f"{name}.json", self.root / SCHEMAS)
        for name in (READY, CLOSED):
            shutil.copy(CONTRACTS / EXAMPLES / f"{name}.json", self.root / EXAMPLES)
        shutil.copy(CONTRACTS / "pyproject.toml", self.root)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        """What git prints."""
        told = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        who = ["-c", "user.name=Ana", "-c", "user.email=ana@example.org"]
        command = ["git", "-C", str(self.top), *who, *arguments]
        return subprocess.run(command, env=os.environ | told, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> str:
        """Commit everything; the commit."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "a step")
        return self.git("rev-parse", "HEAD")

    def path(self, folder: str, name: str = READY) -> Path:
        """A file of the contracts."""
        return self.root / folder / f"{name}.json"

    def edit(self, path: Path, change: Any) -> None:
        """Let `change` alter the JSON of a file."""
        value = json.loads(path.read_bytes())
        change(value)
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def with_other(self, path: Path, change: Any) -> str:
        """Commit a file as `change` makes it, then put today's back, uncommitted; the commit."""
        today = path.read_bytes()
        self.edit(path, change)
        commit = self.commit()
        path.write_bytes(today)
        return commit

    def faults(self, *, since: str = "") -> list[str]:
        """What is wrong with the work tree."""
        return faults(self.root, history(self.root, [SCHEMAS, EXAMPLES], since=since or SINCE))


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Today's contracts, committed once."""
    made = Checkout(tmp_path / "checkout")
    made.commit()
    return made


def _had_field(schema: Any) -> None:
    schema["properties"]["colour"] = {"type": "string"}


def _had_no_maximum(schema: Any) -> None:
    del schema["$defs"]["Quantities"]["properties"]["total"]["maximum"]


def _had_another_word(schema: Any) -> None:
    schema["$defs"]["Quantities"]["properties"]["total"]["type"] = "number"


def test_this_checkout_lets_nobody_down() -> None:
    """Every version on main is compatible with what is here; this takes no three seconds."""
    began = time.monotonic()

    found = history(CONTRACTS, [SCHEMAS, EXAMPLES])

    assert faults(CONTRACTS, found) == []
    assert time.monotonic() - began < 3
    assert len({version.name for version in found.versions}) > 60
    assert all(len(reason) > 20 for reason in WITHDRAWN.values())


def test_nothing_to_say(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    """A history of one version is in order, and it is said that it lacks the first release."""
    assert main(checkout.root) == 0
    assert capsys.readouterr().out == f"note: {SINCE[:10]} is not in the history: everything there counts as shipped\n"


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (_had_field, "colour: was removed"),
        (_had_no_maximum, "quantities.total: maximum is narrower"),
        (_had_another_word, "quantities.total: type changed"),
    ],
)
def test_an_earlier_schema_is_broken(checkout: Checkout, then: Any, told: str) -> None:
    """Whatever a version on main promised, the work tree must keep; the version is named."""
    commit = checkout.with_other(checkout.path(SCHEMAS), then)

    (found,) = checkout.faults()

    assert found.startswith(f"{READY}: {told}")
    assert found.endswith(f"(in {commit[:10]})")


def test_the_newest_version_is_not_the_only_one(checkout: Checkout) -> None:
    """A promise of long ago counts, though versions after it had dropped it; the newest that made it is named."""
    checkout.with_other(checkout.path(SCHEMAS), lambda schema: _had_field(schema) or schema.pop("description"))
    newest = checkout.with_other(checkout.path(SCHEMAS), _had_field)
    for _ in range(3):
        checkout.commit()

    assert checkout.faults() == [f"{READY}: colour: was removed (in {newest[:10]})"]


def test_the_envelope_counts_too(checkout: Checkout) -> None:
    """What all types share is held to the same rules."""
    checkout.with_other(checkout.path(SCHEMAS, "envelope"), _had_field)

    (found,) = checkout.faults()

    assert found.startswith("envelope: colour: was removed")


def test_a_type_is_gone(checkout: Checkout) -> None:
    """A type that was shipped cannot be taken away, with or without its example, committed or not."""
    for folder in (SCHEMAS, EXAMPLES):
        checkout.path(folder).unlink()
    (before,) = checkout.faults()
    checkout.commit()

    (after,) = checkout.faults()

    assert before == after
    assert after.startswith(f"{READY}: was shipped and is gone")


def test_a_renamed_type_is_gone(checkout: Checkout) -> None:
    """Git may call it a rename; to readers the old name is gone."""
    checkout.path(SCHEMAS).rename(checkout.path(SCHEMAS, "vouajudar.batches.batch.prepared.v1"))
    checkout.commit()

    assert any(fault.startswith(f"{READY}: was shipped and is gone") for fault in checkout.faults())


def test_a_shipped_example_is_not_understood(checkout: Checkout) -> None:
    """An example of long ago that today's models refuse is named with the reason."""
    commit = checkout.with_other(checkout.path(EXAMPLES), lambda example: example["data"].pop("status"))

    (found,) = checkout.faults()

    assert found.startswith(f"{READY}: its example is not understood any more: ")
    assert "status" in found
    assert found.endswith(f"(in {commit[:10]})")


def _refusing(received: Received) -> Received:
    raise Undecodable("extra inputs are not permitted")


def _taking_in(received: Received) -> Received:
    return replace(received, event=received.event.model_copy(update={"status": "unknown"}))


@pytest.mark.parametrize(
    ("minding", "told"), [(_refusing, "extra inputs"), (_taking_in, "a field that it does not know")]
)
def test_a_reader_that_minds_unknown_fields(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, minding: Any, told: str
) -> None:
    """Models that refuse what later versions add, or that take it in, are found."""
    monkeypatch.setattr(
        "contracts.history.decode", lambda body: minding(decode(body)) if b"x_later" in body else decode(body)
    )

    found = checkout.faults()

    assert found
    assert all(told in fault for fault in found)


def test_only_main_counts(checkout: Checkout) -> None:
    """What a branch tried and dropped was never shipped: neither on it, nor on main once it is merged."""
    checkout.git("switch", "-q", "-c", "trial")
    checkout.with_other(checkout.path(SCHEMAS), _had_field)
    checkout.edit(checkout.path(SCHEMAS), lambda schema: schema.update(description="Said otherwise."))
    checkout.commit()
    assert checkout.faults() == []

    checkout.git("switch", "-q", "main")
    checkout.git("merge", "-q", "--no-ff", "-m", "merge", "trial")

    assert checkout.faults() == []
    assert checkout.git("log", "--format=%s").count("a step") == 3


def test_a_merge_brings_a_version(checkout: Checkout) -> None:
    """What a merge brought to main counts from then on."""
    checkout.git("switch", "-q", "-c", "feature")
    checkout.edit(checkout.path(SCHEMAS), _had_field)
    checkout.commit()
    checkout.git("switch", "-q", "main")
    checkout.git("merge", "-q", "--no-ff", "-m", "merge", "feature")
    checkout.edit(checkout.path(SCHEMAS), lambda schema: schema["properties"].pop("colour"))

    (found,) = checkout.faults()

    assert "colour: was removed" in found


def test_a_branch_is_held_against_main(checkout: Checkout) -> None:
    """The work tree of a branch is compared with main as the branch left it; main's later types are not missed."""
    checkout.git("switch", "-q", "-c", "work")
    checkout.edit(checkout.path(SCHEMAS), lambda schema: schema["properties"].pop("quantities"))
    checkout.commit()
    checkout.git("switch", "-q", "main")
    shutil.copy(CONTRACTS / SCHEMAS / "vouajudar.batches.batch.lost.v1.json", checkout.root / SCHEMAS)
    checkout.commit()
    checkout.git("switch", "-q", "work")

    (found,) = checkout.faults()

    assert found.startswith(f"{READY}: quantities: was removed")


def test_what_was_before_the_first_release_reached_nobody(checkout: Checkout) -> None:
    """Versions older than the first release do not count; the tree it shipped counts whole, changed since or not."""
    checkout.with_other(checkout.path(SCHEMAS), _had_field)
    release = checkout.commit()
    assert checkout.faults(since=release) == []
    assert checkout.faults() != []

    checkout.path(SCHEMAS, CLOSED).unlink()

    assert checkout.faults(since=release) == [
        f"{CLOSED}: was shipped and is gone: a type stays for ever, marked deprecated (in {release[:10]})"
    ]


def test_a_withdrawn_version_does_not_count(checkout: Checkout) -> None:
    """A committed version that reached nobody is passed over by its blob; an entry that is not needed is refused."""
    start = checkout.git("rev-parse", "HEAD")
    commit = checkout.with_other(checkout.path(SCHEMAS), _had_field)
    blob = checkout.git("rev-parse", f"{commit}:contracts/{SCHEMAS}/{READY}.json")
    shipped = history(checkout.root, [SCHEMAS, EXAMPLES], since=start)

    assert faults(checkout.root, shipped) != []
    assert faults(checkout.root, shipped, {blob: "never left the building"}) == []
    assert faults(checkout.root, shipped, {blob: "so", "0" * 40: "so"}) == [
        f"{'0' * 40} is withdrawn and was never there"
    ]


def test_a_shallow_clone_says_so(checkout: Checkout, tmp_path: Path) -> None:
    """Cut off history checks what it has, and says that older versions were not seen."""
    checkout.with_other(checkout.path(SCHEMAS), _had_field)
    checkout.edit(checkout.path(SCHEMAS), lambda _: None)
    checkout.commit()
    checkout.git("clone", "-q", "--depth", "1", f"file://{checkout.top}", str(tmp_path / "shallow"))

    found = history(tmp_path / "shallow" / "contracts", [SCHEMAS, EXAMPLES], since="")

    assert any("shallow" in note for note in found.notes)
    assert faults(tmp_path / "shallow" / "contracts", found) == []


def test_without_history_it_says_so(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    """A tarball has no history: that is said, and its own examples are still held against the models."""
    shutil.rmtree(checkout.top / ".git")
    assert main(checkout.root) == 0
    assert capsys.readouterr().out.startswith("note: no git history at ")

    checkout.edit(checkout.path(EXAMPLES), lambda example: example["data"].pop("status"))

    assert main(checkout.root) == 1
    assert "its example is not understood any more" in capsys.readouterr().out


def test_without_git_it_says_so(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without git is no reason to fail, nor to pass in silence."""
    monkeypatch.setenv("PATH", "/nowhere")

    found = history(checkout.root, [SCHEMAS, EXAMPLES])

    assert [note.partition(" at ")[0] for note in found.notes] == ["no git history"]
    assert {version.commit for version in found.versions} == {""}


def test_only_in_a_checkout(tmp_path: Path) -> None:
    """Beside an installed package there is nothing to walk."""
    assert main(tmp_path) == 2
