"""Load from k6: 32 connections for a few seconds against one address; the rate of good answers."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

CONNECTIONS = 32
_SCRIPT = """
import http from 'k6/http';
import { check } from 'k6';
const call = %s;
export const options = { vus: %d, duration: '%ds', discardResponseBodies: true };
let n = 0;
export default function () {
  let answer;
  if (call.body) {
    const headers = Object.assign({'Content-Type': 'application/json'}, call.headers);
    if (call.keyed) { headers['Idempotency-Key'] = `${call.run}-${__VU}-${n++}`; }
    answer = http.post(call.url, call.body, {headers: headers});
  } else {
    answer = http.get(call.url, {headers: call.headers});
  }
  check(answer, {good: (a) => a.status === call.status});
}
"""


@dataclass(frozen=True)
class Call:
    """One kind of request."""

    url: str
    headers: Mapping[str, str]
    status: int = 200
    body: Mapping[str, Any] | None = None
    keyed: bool = False


def rate(call: Call, *, seconds: int) -> float:
    """Requests per second; raises RuntimeError when one of them was not answered as it should be."""
    told = {
        "url": call.url,
        "headers": dict(call.headers),
        "status": call.status,
        "body": None if call.body is None else json.dumps(call.body),
        "keyed": call.keyed,
        "run": uuid4().hex[:12],
    }
    with tempfile.TemporaryDirectory() as folder:
        script, summary = Path(folder, "load.js"), Path(folder, "summary.json")
        script.write_text(_SCRIPT % (json.dumps(told), CONNECTIONS, seconds), encoding="utf-8")
        k6 = Path(sys.executable).with_name("k6")
        done = subprocess.run(
            [k6, "run", "--quiet", "--no-usage-report", f"--summary-export={summary}", script],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-2000:])
        metrics = json.loads(summary.read_text(encoding="utf-8"))["metrics"]
    if metrics["checks"]["fails"]:
        raise RuntimeError(f"{metrics['checks']['fails']} wrong answers from {call.url}")
    return float(metrics["http_reqs"]["rate"])
