"""Writes what follows from the event models: JSON Schemas and `asyncapi.yaml`. Same models, same bytes.

`python -m contracts.generate` writes; with `--check` it writes nothing, names the files that drifted and exits 1.
A tool for a checkout, never imported at run time; it needs PyYAML, a development dependency.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import override

from contracts import topology
from contracts.envelope import CONTENT_TYPE, SCHEMA_BASE, Envelope, Event, schema_of
from contracts.events.webhooks import EndpointTest
from contracts.registry import event_types

CONTRACTS = Path(__file__).resolve().parents[2]
SCHEMAS = "src/contracts/schemas"
EXAMPLES = "src/contracts/examples"
ASYNCAPI = "asyncapi.yaml"
OFF_THE_BUS = frozenset({EndpointTest})  # goes to one endpoint only

Json = dict[str, Any]


class _PlainSchema(GenerateJsonSchema):
    """JSON Schema without the titles that only repeat a field's name."""

    @override
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def generated() -> dict[str, str]:
    """Every generated file's text by its path below `contracts/`."""
    texts = {f"{SCHEMAS}/{name}.json": _json(schema) for name, schema in schemas().items()}
    return {**texts, ASYNCAPI: _yaml(asyncapi(event_types().values()))}


def schemas() -> dict[str, Json]:
    """JSON Schema of the envelope and of each type's `data`, by file name without its ending."""
    envelope = schema_for(Envelope, f"{SCHEMA_BASE}envelope.json")
    # CloudEvents requires it and we always write it, though our model fills it in when it is absent.
    envelope["required"] = ["specversion", *envelope["required"]]
    return {"envelope": envelope} | {name: schema_for(event, schema_of(name)) for name, event in event_types().items()}


def schema_for(model: type[BaseModel], address: str) -> Json:
    """What a reader may rely on; fields that have a default may be absent, unknown fields may come."""
    body = model.model_json_schema(mode="validation", schema_generator=_PlainSchema)
    return {"$schema": _PlainSchema.schema_dialect, "$id": address, **body}


def asyncapi(events: Iterable[type[Event]]) -> Json:
    """AsyncAPI 3: a channel per exchange, a message per event type, an operation per producer."""
    by_producer: dict[str, list[type[Event]]] = {}
    for event in events:
        channel = f"{event.producer}.{event.aggregate}" if event in OFF_THE_BUS else event.producer
        by_producer.setdefault(channel, []).append(event)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "VouAjudar events",
            "version": "1.0.0",
            "description": "Facts that the services publish, as CloudEvents 1.0 in structured JSON. "
            "Generated from the event models by `python -m contracts.generate`.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {channel: _channel(found) for channel, found in by_producer.items()},
        "operations": {f"{channel}.publish": _operation(channel, found) for channel, found in by_producer.items()},
        "components": {
            "messages": {event.type_name(): _message(event) for found in by_producer.values() for event in found},
            "correlationIds": {"correlationid": {"location": "$message.payload#/correlationid"}},
        },
    }


def _channel(events: list[type[Event]]) -> Json:
    producer = events[0].producer
    messages = {e.type_name(): {"$ref": f"#/components/messages/{e.type_name()}"} for e in events}
    if OFF_THE_BUS.issuperset(events):
        return {
            "address": None,
            "description": f"The address of one endpoint, known to {producer} alone; not on the bus.",
            "messages": messages,
        }
    name = topology.exchange(producer)
    exchange = {"name": name, "type": "topic", "durable": True, "autoDelete": False}
    return {
        "address": name,
        "description": f"The topic exchange of {producer}; each message names its routing key.",
        "messages": messages,
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": "0.3.0"}},
    }


def _operation(channel: str, events: list[type[Event]]) -> Json:
    where = f"#/channels/{channel}"
    operation = {
        "action": "send",
        "channel": {"$ref": where},
        "summary": f"{events[0].producer} publishes its facts.",
        "messages": [{"$ref": f"{where}/messages/{e.type_name()}"} for e in events],
    }
    if OFF_THE_BUS.issuperset(events):
        return operation
    return operation | {"bindings": {"amqp": {"deliveryMode": 2, "bindingVersion": "0.3.0"}}}


def _message(event: type[Event]) -> Json:
    name = event.type_name()
    typed = {"type": {"const": name}, "data": {"$ref": f"./{SCHEMAS}/{name}.json"}}
    return {
        "name": name,
        "title": event.__name__,
        "summary": (event.__doc__ or "").strip().partition("\n")[0],
        "contentType": CONTENT_TYPE,
        "correlationId": {"$ref": "#/components/correlationIds/correlationid"},
        "payload": {"allOf": [{"$ref": f"./{SCHEMAS}/envelope.json"}, {"type": "object", "properties": typed}]},
        "x-routing-key": event.routing_key(),
        "x-example": f"./{EXAMPLES}/{name}.json",
    }


def _json(value: Json) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _yaml(value: Json) -> str:
    note = "# Generated by `python -m contracts.generate`; edit the event models instead.\n"
    return note + yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)


def drifted(root: Path, texts: Mapping[str, str]) -> list[str]:
    """Paths whose file is missing, differs, or is a schema of nothing that is published."""
    unwanted = _schema_files(root) - texts.keys()
    return sorted(unwanted | {path for path, text in texts.items() if _bytes(root / path) != text.encode()})


def write(root: Path, texts: Mapping[str, str]) -> list[str]:
    """Makes the files equal to `texts` and removes schemas of nothing; the paths that changed."""
    changed = drifted(root, texts)
    for path in changed:
        target = root / path
        if path in texts:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(texts[path].encode())
        else:
            target.unlink()
    return changed


def _schema_files(root: Path) -> set[str]:
    return {f"{SCHEMAS}/{found.name}" for found in (root / SCHEMAS).glob("*.json")}


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def main(arguments: list[str], root: Path = CONTRACTS) -> int:
    """Exit code: 0 when the files are (now) up to date, 1 when `--check` found drift, 2 outside a checkout."""
    parser = argparse.ArgumentParser(prog="python -m contracts.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 with the names of drifted files")
    check = parser.parse_args(arguments).check
    if not (root / "pyproject.toml").is_file():
        sys.stderr.write("contracts.generate works on a checkout, not on an installed package\n")
        return 2
    found = drifted(root, generated()) if check else write(root, generated())
    sys.stdout.writelines(f"{'drifted' if check else 'wrote'}: {path}\n" for path in found)
    return 1 if check and found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
