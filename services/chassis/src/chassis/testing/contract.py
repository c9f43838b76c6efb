"""Schemathesis against one live service, as its own process: every documented route, valid and invalid input, all checks."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping

from chassis.testing.live import LiveService

TIMEOUT_S = 180
# A well-formed request may still ask for the impossible: a cursor of another list (400), a version gone by (412), an end
# before its beginning (422).
_CONFIG = """
[generation]
allow-x00 = false
[phases]
stateful.enabled = false
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "412", "422", "429"]
[parameters]
"""
_READ_LATER = """
[[operations]]
include-path-regex = {}
checks.negative_data_rejection.enabled = false
"""


def schemathesis_report(
    live: LiveService,
    headers: Mapping[str, str],
    *,
    parameters: Mapping[str, str] | None = None,
    examples: int = 15,
    left_out: str = "^/v1/ops/",
    read_later: str | None = None,
) -> str | None:
    """None when every check holds, otherwise the report.

    `parameters` (`{"path.batch_id": "…"}`) name things that exist, so that the routes get further than 404.
    `left_out` is a pattern of paths that are not asked: the operators' ones, and any that would take the credentials away.
    `read_later` is one of paths that take any body in and read it after they have answered.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        lines = [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in (parameters or {}).items()]
        if read_later is not None:
            lines.append(_READ_LATER.format(json.dumps(read_later)))
        config.write(_CONFIG + "\n".join(lines) + "\n")
        config.flush()
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", config.name, "run",
            f"{live.url}/openapi/{live.name}.json", "--max-examples", str(examples), "--seed", "1",
            "--exclude-path-regex", left_out, "--no-color", "--suppress-health-check", "all",
        ]  # fmt: skip
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return None if done.returncode == 0 else done.stdout[-20_000:] + done.stderr[-5_000:]
