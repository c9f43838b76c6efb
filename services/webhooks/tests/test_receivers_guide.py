"""What docs/webhooks.md tells receivers to do works with what the service really sends; nothing on the page is untried."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.kernel import new_id
from webhooks.signing import parse_secret, signed_headers

from scripts.node import NODE, RECEIVERS, packages
from services.webhooks.tests.builders import Endpoint, Owner
from services.webhooks.tests.receiver import Receiver

PAGE = Path(__file__).resolve().parents[3] / "docs" / "webhooks.md"
NODE_S_MAX = 30
_BLOCK = re.compile(r"^```(python|javascript)\n(?:#|//) (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SNIPPETS = {name: code for _, name, code in _BLOCK.findall(PAGE.read_text(encoding="utf-8"))}
Headers = dict[str, str]


@dataclass(frozen=True)
class Sent:
    """A request as the service made it, and with what it can be verified."""

    headers: Headers
    body: bytes
    secrets: list[str]
    key_set: dict[str, Any]
    event_id: str


@pytest.fixture
async def sent(
    receiver: Receiver, endpoint_at: Callable[..., Awaitable[Endpoint]], publish: Callable[..., Awaitable[UUID]],
    owner: Owner, client: httpx.AsyncClient,
) -> Sent:  # fmt: skip
    """What an endpoint with two rotations behind it and both schemes is sent."""
    endpoint = await endpoint_at(receiver.url, ed25519=True)
    path = f"/v1/webhook-endpoints/{endpoint['id']}"
    secrets = [endpoint["secret"], *[(await owner.post(f"{path}/rotate-secret"))["secret"] for _ in range(2)]]
    event_id = await publish()
    (request,) = await receiver.received(1)
    key_set = (await client.get(f"{path}/jwks.json")).json()
    return Sent(request.headers, request.body, secrets, key_set, str(event_id))


def python(name: str) -> dict[str, Any]:
    """The names that a Python snippet of the page defines."""
    names: dict[str, Any] = {"__name__": name.removesuffix(".py")}
    exec(compile(SNIPPETS[name], f"{PAGE.name}:{name}", "exec"), names)
    return names


_DRIVER = """import { readFileSync } from "node:fs";
import * as snippet from "./%s";
const calls = JSON.parse(readFileSync(0, "utf8"));
const results = calls.map(([first, headers, body]) => snippet.%s(first, headers, Buffer.from(body, "base64")));
console.log(JSON.stringify(results));
"""


def javascript(home: Path, name: str, function: str, calls: list[tuple[Any, Headers, bytes]]) -> list[Any]:
    """What a function of a JavaScript snippet of the page returns, called by Node with the pinned packages at hand."""
    modules = home / "node_modules"
    if not modules.exists():
        modules.symlink_to(packages(RECEIVERS) / "node_modules")
    (home / name).write_text(SNIPPETS[name])
    (home / "driver.mjs").write_text(_DRIVER % (name, function))
    told = json.dumps([(first, headers, base64.b64encode(body).decode()) for first, headers, body in calls])
    done = subprocess.run(
        [NODE, "driver.mjs"], cwd=home, input=told, capture_output=True, text=True, timeout=NODE_S_MAX, check=False
    )
    assert done.returncode == 0, done.stderr
    results: list[Any] = json.loads(done.stdout)
    return results


def forgeries(sent: Sent) -> list[tuple[Headers, bytes]]:
    """What is not, or not any more, a request of ours: body, id, time and signature tampered with, one by one."""
    headers, body = sent.headers, sent.body
    return [
        (headers, body + b" "),
        (headers | {"webhook-id": str(new_id())}, body),
        (headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)}, body),
        (headers | {"webhook-signature": "v1,AAAA v1a,AAAA"}, body),
        (headers | {"webhook-signature": "nonsense"}, body),
        ({name: value for name, value in headers.items() if name != "webhook-signature"}, body),
        (headers | {"webhook-timestamp": "soon"}, body),
    ]


def test_every_snippet_is_tried() -> None:
    """No code on the page but what these tests run."""
    fences = re.findall(r"^```\w+$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(SNIPPETS) == ["once.py", "verify.mjs", "verify.py", "verify_public.mjs", "verify_public.py"]
    assert len(fences) == len(SNIPPETS)


async def test_the_python_library_verifies_what_the_service_sends(sent: Sent) -> None:
    """With each of the three secrets, and nothing that was tampered with or is old."""
    event_of = python("verify.py")["event_of"]

    for secret in sent.secrets:
        assert event_of(secret, sent.headers, sent.body)["id"] == sent.event_id
    assert [event_of(sent.secrets[0], *forgery) for forgery in forgeries(sent)] == [None] * 7
    assert event_of("whsec_" + "A" * 32, sent.headers, sent.body) is None
    old = signed_headers("an-id", int(time.time()) - 301, sent.body, [parse_secret(sent.secrets[0])])
    assert event_of(sent.secrets[0], old, sent.body) is None


async def test_the_javascript_library_verifies_what_the_service_sends(sent: Sent, tmp_path: Path) -> None:
    """The npm package under Node, with each of the three secrets, and nothing that was tampered with or is old."""
    old = signed_headers("an-id", int(time.time()) - 301, sent.body, [parse_secret(sent.secrets[0])])
    good = [(secret, sent.headers, sent.body) for secret in sent.secrets]
    bad = [(sent.secrets[0], *forgery) for forgery in forgeries(sent)]
    bad += [("whsec_" + "A" * 32, sent.headers, sent.body), (sent.secrets[0], old, sent.body)]

    results = javascript(tmp_path, "verify.mjs", "eventOf", good + bad)

    assert [result and result["id"] for result in results] == [sent.event_id] * 3 + [None] * 9


async def test_public_keys_verify_what_the_service_sends(sent: Sent, tmp_path: Path) -> None:
    """Each key of the page by itself, in Python and in JavaScript; no stranger's, nothing tampered with, nothing old."""
    is_ours = python("verify_public.py")["is_ours"]
    each = [{"keys": [key]} for key in sent.key_set["keys"]]
    x = sent.key_set["keys"][0]["x"]
    stranger = {"keys": [sent.key_set["keys"][0] | {"x": ("A" if x[0] != "A" else "B") + x[1:]}]}
    old = sent.headers | {"webhook-timestamp": str(int(time.time()) - 301)}
    good = [(keys, sent.headers, sent.body) for keys in each]
    bad = [(sent.key_set, *forgery) for forgery in forgeries(sent)]
    bad += [
        (sent.key_set, old, sent.body),
        ({"keys": []}, sent.headers, sent.body),
        (stranger, sent.headers, sent.body),
    ]

    in_python = [is_ours(*call) for call in good + bad]
    in_javascript = javascript(tmp_path, "verify_public.mjs", "isOurs", good + bad)

    assert len(each) == 3
    assert in_python == in_javascript == [True] * 3 + [False] * 10


def test_an_event_is_handled_once() -> None:
    """A known id has no effect; an effect that fails leaves the id unknown."""
    handle_once = python("once.py")["handle_once"]
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE webhooks_handled (id TEXT PRIMARY KEY)")
    effects: list[str] = []

    def fails() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        handle_once(database, "one", fails)

    assert handle_once(database, "one", lambda: effects.append("one")) is True
    assert handle_once(database, "one", lambda: effects.append("again")) is False
    assert effects == ["one"]
