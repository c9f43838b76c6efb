"""The gateway's own errors are problems; those of services pass as they are."""

from __future__ import annotations

import httpx
import pytest

from gateway.tests.conftest import Backend, Gateway, eventually

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id"}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 422, 429, 500, 503])
def test_problems_of_services_are_untouched(client: httpx.Client, status: int) -> None:
    """A service's own problem passes with its body and headers."""
    answer = client.get(f"/v1/batches/status/{status}")

    assert answer.status_code == status
    assert answer.json()["service"] == "batches"
    assert answer.headers["ratelimit"] == "limit=1"


def test_a_request_id_is_kept(client: httpx.Client) -> None:
    """A valid request id is echoed in the gateway's own problems, another one replaced; services get what was sent."""
    kept = client.get("/nowhere", headers={"X-Request-Id": "abc-1.2_3"})
    replaced = client.get("/nowhere", headers={"X-Request-Id": "no spaces"})
    passed = client.get("/v1/batches", headers={"X-Request-Id": "abc"})

    assert kept.json()["request_id"] == kept.headers["x-request-id"] == "abc-1.2_3"
    assert replaced.json()["request_id"] not in {"", "no spaces"}
    assert passed.json()["headers"]["x-request-id"] == "abc"


def test_nowhere_is_a_problem(client: httpx.Client) -> None:
    """A path without a route is a complete problem that names the path without its query."""
    answer = client.post("/nowhere/at/all?secret=1", json={})

    assert answer.status_code == 404
    assert set(answer.json()) == MEMBERS
    assert answer.json()["instance"] == "/nowhere/at/all"


def test_too_large_a_body_is_a_problem(client: httpx.Client) -> None:
    """More than 1 MiB outside the upload routes is 413 as a problem, before a service sees it."""
    answer = client.post("/v1/batches", content=b"x" * 1_200_000)

    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/catalogue-loads", "/v1/stream"])
def test_too_many_requests_are_a_problem(narrow_gateway: Gateway, path: str) -> None:
    """Past the limit per address the gateway refuses with a problem and says when to come back."""
    with narrow_gateway.client() as client:
        answers = [client.get(path) for _ in range(20)]
    refused = [answer for answer in answers if answer.status_code == 429]

    assert refused
    assert refused[-1].headers["retry-after"] == "1"
    assert set(refused[-1].json()) == MEMBERS
    assert refused[-1].json()["instance"] == path


def test_a_service_that_is_down_is_a_problem(gateway: Gateway) -> None:
    """A service out of reach is 502 as a problem, then 503 until it answers again."""
    port = gateway.backends["webhooks"].port
    gateway.backends["webhooks"].close()
    with gateway.client() as client:
        first = client.get("/v1/jobs")
        eventually(lambda: client.get("/v1/jobs").status_code == 503, "the check takes it out")
        later = client.get("/v1/jobs")
        gateway.backends["webhooks"] = Backend("webhooks", port)
        eventually(lambda: client.get("/v1/jobs").status_code == 200, "the check brings it back")

    assert (first.status_code, first.json()["code"], first.json()["instance"]) == (502, "bad-gateway", "/v1/jobs")
    assert (later.status_code, later.json()["code"]) == (503, "service-unavailable")
    assert later.headers["retry-after"] == "1"
