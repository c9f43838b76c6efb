"""`contracts/problem_codes.json`: every stable problem `code`, its status and meaning, from the errors; `--check` tells drift."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

from chassis.kernel import DomainError
from chassis.problems import STATUS_OF
from contracts.topology import SERVICES

from gateway.problems import PROBLEMS
from scripts.openapi import TOLD

TARGET = Path(__file__).resolve().parents[1] / "contracts" / "problem_codes.json"
# What the edge says without a domain error; the gateway's own are added from its list.
EDGE = {
    "bad-json": (400, "The body is not valid JSON."),
    "nul-character": (400, "NUL is not allowed in an address."),
    "method-not-allowed": (405, "The address has other methods; `Allow` names them."),
    "body-too-large": (413, "The body is over the limit."),
    "unsupported-media-type": (415, "Send application/json."),
    "invalid-input": (422, "The input does not fit the schema; `errors` point into it."),
    "internal": (500, "Something went wrong on our side; the request id helps to find it."),
    "unavailable": (503, "Try again shortly."),
}


def _kinds(kind: type[DomainError]) -> list[type[DomainError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _kinds(child))]


def _status(kind: type[DomainError]) -> int:
    return next((status for base, status in STATUS_OF if issubclass(kind, base)), 409)


def codes() -> dict[str, dict[str, object]]:
    """Code → status, meaning and the services that answer it (none named: all)."""
    os.environ.update(TOLD)
    for service in SERVICES:
        importlib.import_module(f"{service}.main")
    listed: dict[str, dict[str, object]] = {
        code: {"status": status, "meaning": meaning, "services": []} for code, (status, meaning) in EDGE.items()
    }
    for status, (code, meaning) in PROBLEMS.items():
        listed.setdefault(code, {"status": status, "meaning": f"The gateway: {meaning}.", "services": []})
    for kind in _kinds(DomainError)[1:]:
        owner = kind.__module__.partition(".")[0]
        entry = listed.setdefault(
            kind.slug, {"status": _status(kind), "meaning": (kind.__doc__ or "").partition("\n")[0], "services": []}
        )
        services = entry["services"]
        if owner in SERVICES and isinstance(services, list) and owner not in services:
            services.append(owner)
    for entry in listed.values():
        entry["services"] = sorted(entry["services"]) if isinstance(entry["services"], list) else []
    return dict(sorted(listed.items()))


def main() -> int:
    """Write the list, or with `--check` say whether it differs."""
    text = json.dumps(codes(), indent=1, ensure_ascii=False) + "\n"
    if "--check" in sys.argv[1:]:
        same = TARGET.exists() and TARGET.read_text(encoding="utf-8") == text
        if not same:
            print("drifted: contracts/problem_codes.json (python -m scripts.problem_codes)")
        return 0 if same else 1
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
