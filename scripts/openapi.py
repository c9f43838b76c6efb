"""The OpenAPI documents of all services and of the whole, as committed in `contracts/openapi/`: `--check` tells drift."""

from __future__ import annotations

import base64
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from chassis.app import Runtime, create_app
from contracts.topology import SERVICES

Document = dict[str, Any]
TARGET = Path(__file__).resolve().parents[1] / "contracts" / "openapi"
# Nothing is connected to: a service is only built, to be asked what it would answer.
TOLD = {
    "VAJ_DATABASE_URL": "postgresql://nobody@127.0.0.1/none",
    "VAJ_BROKER_URL": "amqp://127.0.0.1/",
    "VAJ_REDIS_URL": "redis://127.0.0.1/0",
    "VAJ_SECRET_KEY": base64.urlsafe_b64encode(bytes(32)).decode(),
    "VAJ_INTERNAL_TOKEN": "not-a-token-but-long-enough-to-be-one",
    "VAJ_IDENTITY_INTERNAL_URL": "http://127.0.0.1:2",
    "VAJ_SMTP_URL": "smtp://127.0.0.1:25",
    "VAJ_API_PORT": "1",
    "VAJ_OPS_PORT": "2",
}


def document_of(service: str) -> Document:
    """What a service says of itself."""
    built = importlib.import_module(f"{service}.main").build()
    return create_app(Runtime(built)).openapi()


def merged(documents: dict[str, Document]) -> Document:
    """One document of all public routes; schemas of one name and different content get their service's name in front."""
    whole: Document = {
        "openapi": "3.1.0",
        "info": {"title": "VouAjudar", "version": "1"},
        "paths": {},
        "components": {"schemas": {}},
    }
    for service, told in documents.items():
        document = _without_clashes(service, told, whole["components"]["schemas"])
        whole["paths"] |= {path: item for path, item in document["paths"].items() if not path.startswith("/v1/ops/")}
        whole["components"]["schemas"] |= document["components"]["schemas"]
        whole["components"]["securitySchemes"] = document["components"]["securitySchemes"]
        whole["security"] = document["security"]
    return whole


def _without_clashes(service: str, document: Document, taken: Document) -> Document:
    schemas = document["components"]["schemas"]
    clashing = [name for name, schema in schemas.items() if name in taken and taken[name] != schema]
    text = json.dumps(document)
    for name in clashing:
        text = text.replace(f'"#/components/schemas/{name}"', f'"#/components/schemas/{service.capitalize()}{name}"')
    renamed: Document = json.loads(text)
    for name in clashing:
        renamed["components"]["schemas"][f"{service.capitalize()}{name}"] = renamed["components"]["schemas"].pop(name)
    return renamed


def main() -> int:
    """Write the documents, or with `--check` name those that differ."""
    os.environ.update(TOLD)
    documents = {service: document_of(service) for service in SERVICES}
    wanted = {f"{name}.json": _text(document) for name, document in {**documents, "public": merged(documents)}.items()}
    drifted = [name for name, text in wanted.items() if _present(TARGET / name) != text]
    if "--check" in sys.argv[1:]:
        for name in drifted:
            print(f"drifted: contracts/openapi/{name} (python -m scripts.openapi)")
        return 1 if drifted else 0
    TARGET.mkdir(exist_ok=True)
    for name in drifted:
        (TARGET / name).write_text(wanted[name], encoding="utf-8")
    return 0


def _present(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _text(document: Document) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
