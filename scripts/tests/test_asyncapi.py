"""The AsyncAPI document is what the AsyncAPI project's own parser takes for one, and says what is published."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from contracts.envelope import schema_of
from contracts.generate import CONTRACTS, SCHEMAS
from contracts.registry import event_types

from scripts.asyncapi import DOCUMENT, PINNED, Parsed, main, parse
from scripts.node import RECEIVERS, REQUIREMENTS

READY = "vouajudar.batches.batch.ready.v1"
Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def parsed() -> Parsed:
    """The committed document as the parser understands it."""
    (found,) = parse(DOCUMENT)
    return found


def test_the_document_is_valid(parsed: Parsed) -> None:
    """The parser has nothing against it."""
    assert [str(fault) for fault in parsed.faults] == []
    assert main([]) == 0


def test_references_are_resolved(parsed: Parsed) -> None:
    """Every type is a message, and the schemas beside the document are in its payload: the envelope and the type's own."""
    assert parsed.payloads.keys() == event_types().keys()
    for name, payload in parsed.payloads.items():
        envelope, typed = payload["allOf"]
        assert envelope["$id"] == schema_of("envelope")
        assert {"specversion", "id", "source", "type"} <= set(envelope["required"])
        assert typed["properties"]["type"]["const"] == name
        assert typed["properties"]["data"]["$id"] == schema_of(name)
        assert typed["properties"]["data"]["properties"].keys() == event_types()[name].model_fields.keys()


PLANTED: dict[str, tuple[Change, str]] = {
    "no version": (lambda document: document["info"].pop("version"), "info"),
    "another specification": (lambda document: document.update(asyncapi="3.9.9"), "3.9.9"),
    "an action that is none": (
        lambda document: document["operations"]["batches.publish"].update(action="shout"),
        "operations/batches.publish/action",
    ),
    "a channel that is nowhere": (
        lambda document: document["operations"]["batches.publish"].update(channel={"$ref": "#/channels/nowhere"}),
        "operations/batches.publish/channel",
    ),
    "a schema that is nowhere": (
        lambda document: _payload(document).update(data={"$ref": f"./{SCHEMAS}/nothing.json"}),
        f"components/messages/{READY}/payload",
    ),
    "a type that is none": (lambda document: _payload(document).update(data={"type": "txt"}), f"{READY}/payload"),
    "a field that is none": (lambda document: document["components"].update(gadgets={}), "components"),
}


def _payload(document: Any) -> Any:
    return document["components"]["messages"][READY]["payload"]["allOf"][1]["properties"]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parsed]:
    """What the parser says of documents in which an error was planted."""
    root = tmp_path_factory.mktemp("contracts")
    shutil.copytree(CONTRACTS / SCHEMAS, root / SCHEMAS)
    paths = [root / f"{number}.yaml" for number in range(len(PLANTED))]
    for path, (change, _) in zip(paths, PLANTED.values(), strict=True):
        document = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
        change(document)
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return dict(zip(PLANTED, parse(*paths), strict=True))


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_found(planted: dict[str, Parsed], name: str) -> None:
    """The parser bites, and names the place."""
    assert any(PLANTED[name][1] in str(fault) for fault in planted[name].faults), planted[name].faults


def test_an_error_in_a_schema_beside_it_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the document refers to is part of it: a schema file that is none fails the command."""
    shutil.copytree(CONTRACTS / SCHEMAS, tmp_path / SCHEMAS)
    shutil.copy(DOCUMENT, tmp_path)
    schema = tmp_path / SCHEMAS / f"{READY}.json"
    schema.write_text(schema.read_text().replace('"type": "integer"', '"type": "whole number"', 1))

    assert main([str(tmp_path / DOCUMENT.name)]) == 1
    assert READY in capsys.readouterr().out


@pytest.mark.parametrize(("pinned", "least"), [(PINNED, 100), (RECEIVERS, 3)])
def test_the_locks_name_no_registry(pinned: Path, least: int) -> None:
    """Every package is pinned by hash, and none by where this lock happened to be made."""
    lock = yaml.safe_load((pinned / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: one for name, one in lock["packages"].items() if name}

    assert len(packages) >= least
    assert [name for name, one in packages.items() if "resolved" in one or "integrity" not in one] == []
    assert "://" not in REQUIREMENTS.read_text(encoding="utf-8")
