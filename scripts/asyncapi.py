"""Holds `contracts/asyncapi.yaml` against the parser of the AsyncAPI project itself, whose references it resolves.

The parser is JavaScript: Node and the packages of `asyncapi_parser/package-lock.json` come on first use only (docs/adr/0009).
Nothing but the tests and this command needs them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.node import NODE, packages

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENT = REPOSITORY / "contracts" / "asyncapi.yaml"
PINNED = Path(__file__).resolve().parent / "asyncapi_parser"
PARSE_S_MAX = 60


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """What the parser says of one place in a document."""

    severity: str
    code: str
    path: str
    message: str

    def __str__(self) -> str:
        """`severity path: message (code)`."""
        return f"{self.severity} {self.path or '/'}: {self.message} ({self.code})"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document as the parser understood it: what it objects to, and each message's payload, references resolved."""

    faults: list[Diagnostic]
    payloads: dict[str, Any]


def parse(*documents: Path) -> list[Parsed]:
    """What the public parser makes of each document; hints to use a newer version of the specification are no faults."""
    command = [NODE, packages(PINNED) / "validate.mjs", *documents]
    done = subprocess.run(command, capture_output=True, check=True, timeout=PARSE_S_MAX)
    return [
        Parsed(
            [Diagnostic(**told) for told in said["diagnostics"] if told["severity"] in ("error", "warning")],
            {message["name"]: message["payload"] for message in said["messages"]},
        )
        for said in json.loads(done.stdout)
    ]


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 when the parser has nothing against the documents, 1 with what it has."""
    documents = [Path(one) for one in arguments] or [DOCUMENT]
    faults = [fault for parsed in parse(*documents) for fault in parsed.faults]
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
