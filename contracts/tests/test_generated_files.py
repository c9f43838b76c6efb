"""Schemas and AsyncAPI are what the models say, to the byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from contracts.events.webhooks import EndpointTest
from contracts.generate import ASYNCAPI, CONTRACTS, SCHEMAS, drifted, generated, main
from contracts.registry import event_types
from jsonschema import Draft202012Validator

from contracts import catalogue, topology

READY = f"{SCHEMAS}/vouajudar.batches.batch.ready.v1.json"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what generation writes to, which a test may spoil."""
    shutil.copytree(CONTRACTS / SCHEMAS, tmp_path / SCHEMAS)
    for name in (ASYNCAPI, "pyproject.toml"):
        shutil.copy(CONTRACTS / name, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The committed AsyncAPI document."""
    found: dict[str, Any] = yaml.safe_load((CONTRACTS / ASYNCAPI).read_text(encoding="utf-8"))
    return found


def references(value: Any) -> list[str]:
    """Every `$ref` of a document."""
    if isinstance(value, list):
        return [found for one in value for found in references(one)]
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + references(list(value.values()))
    return []


def resolves(reference: str, document: Any) -> bool:
    """Whether a reference points to something: a member of the document, or a file beside it."""
    if not reference.startswith("#/"):
        return (CONTRACTS / reference).is_file()
    for part in reference.removeprefix("#/").split("/"):
        if part not in document:
            return False
        document = document[part]
    return True


def test_no_drift() -> None:
    """What is committed is what the models generate; after a change run `python -m contracts.generate`."""
    assert drifted(CONTRACTS, generated()) == []


def test_drift_is_named(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed, a missing and a left-over file are named, the exit code is 1, and nothing is written."""
    left_over = f"{SCHEMAS}/vouajudar.batches.batch.gone.v1.json"
    (checkout / READY).write_text((checkout / READY).read_text().replace('"portion"', '"kg"'))
    (checkout / ASYNCAPI).unlink()
    (checkout / left_over).write_text("{}")

    code = main(["--check"], root=checkout)

    assert code == 1
    assert capsys.readouterr().out.splitlines() == [f"drifted: {path}" for path in (ASYNCAPI, left_over, READY)]
    assert not (checkout / ASYNCAPI).exists()


def test_one_byte_is_drift(checkout: Path) -> None:
    """Even another line ending is drift."""
    (checkout / READY).write_bytes((checkout / READY).read_bytes().replace(b"\n", b"\r\n"))

    assert drifted(checkout, generated()) == [READY]


def test_writing_ends_drift(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Writing repairs exactly what drifted; then the check is silent."""
    (checkout / READY).unlink()

    assert main([], root=checkout) == 0
    assert main(["--check"], root=checkout) == 0
    assert capsys.readouterr().out == f"wrote: {READY}\n"


def test_only_in_a_checkout(tmp_path: Path) -> None:
    """Beside an installed package nothing is written."""
    assert main([], root=tmp_path) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", ["1", "2"])
def test_same_models_same_bytes(seed: str) -> None:
    """Another process, with other hashes, generates the same."""
    done = subprocess.run(
        [sys.executable, "-m", "contracts.generate", "--check"],
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", event_types())
def test_schemas_are_schemas(name: str) -> None:
    """Each schema is valid JSON Schema 2020-12 and says what happened."""
    schema = catalogue.schema(name)

    Draft202012Validator.check_schema(schema)
    assert schema["description"]
    assert schema.get("additionalProperties", True) is True, "readers must survive fields that later versions add"


def test_the_envelope_schema() -> None:
    """It is valid, and requires what CloudEvents requires."""
    Draft202012Validator.check_schema(catalogue.envelope_schema())
    assert {"specversion", "id", "source", "type"} <= set(catalogue.envelope_schema()["required"])


def test_references_resolve(document: dict[str, Any]) -> None:
    """Every reference of the AsyncAPI document points to something, files included."""
    found = references(document)

    assert len(found) > 3 * len(event_types())
    assert [reference for reference in found if not resolves(reference, document)] == []
    assert not resolves("#/channels/nowhere", document)
    assert not resolves(f"./{SCHEMAS}/nothing.json", document)


def test_channels(document: dict[str, Any]) -> None:
    """A channel per producer: on its exchange, with exactly its types; a test event goes outside the bus."""
    channels = dict(document["channels"])
    alone = channels.pop("webhooks.endpoint")
    assert (alone["address"], list(alone["messages"])) == (None, [EndpointTest.type_name()])
    for producer, channel in channels.items():
        published = [name for name, event in event_types().items() if event.producer == producer]
        assert list(channel["messages"]) == [name for name in published if name not in alone["messages"]]
        assert channel["address"] == topology.exchange(producer)
    assert {event.producer for event in event_types().values()} == set(channels)


def test_messages(document: dict[str, Any]) -> None:
    """A message carries the envelope with its type's data, its routing key, and its example."""
    messages = document["components"]["messages"]

    assert list(messages) == list(event_types())
    for name, message in messages.items():
        envelope, typed = message["payload"]["allOf"]
        assert envelope == {"$ref": f"./{SCHEMAS}/envelope.json"}
        assert typed["properties"] == {"type": {"const": name}, "data": {"$ref": f"./{SCHEMAS}/{name}.json"}}
        assert message["x-routing-key"] == event_types()[name].routing_key()
        assert (CONTRACTS / message["x-example"]).is_file()


def test_operations(document: dict[str, Any]) -> None:
    """Every producer sends all its messages on its own channel."""
    for producer, channel in document["channels"].items():
        operation = document["operations"][f"{producer}.publish"]
        assert (operation["action"], operation["channel"]) == ("send", {"$ref": f"#/channels/{producer}"})
        assert len(operation["messages"]) == len(channel["messages"])
