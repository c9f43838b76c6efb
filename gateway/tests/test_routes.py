"""Every public path reaches its service, and nothing else does."""

from __future__ import annotations

import httpx
import pytest

ROUTES = {
    "identity": [
        "/v1/users",
        "/v1/users/1/roles",
        "/v1/auth/login",
        "/oauth/token",
        "/.well-known/jwks.json",
        "/v1/me",
        "/v1/me/volunteer-profile",
        "/v1/organizations/1/members",
        "/v1/places",
        "/v1/api-keys/1/rotate",
    ],
    "batches": ["/v1/batches", "/v1/batches/1/ready"],
    "deliveries": [
        "/v1/deliveries/1/claim",
        "/v1/tasks",
        "/v1/task-templates/1",
        "/v1/offers",
        "/v1/sync",
        "/v1/me/deliveries.ics",
    ],
    "resources": [
        "/v1/resource-requests",
        "/v1/reservations/1",
        "/v1/matches/1",
        "/v1/catalogue-loads",
        "/v1/catalogue-loads/1/rejects",
        "/v1/products",
        "/v1/inovafarma/products",
    ],
    "notifications": [
        "/v1/notifications/1/read",
        "/v1/stream",
        "/v1/unsubscribe/token",
        "/v1/channels/whatsapp/inbound",
        "/v1/me/preferences",
        "/v1/me/devices",
        "/v1/me/devices/1",
    ],
    "analytics": ["/v1/analytics/dashboard", "/v1/audit-events", "/v1/timeline/1"],
    "webhooks": ["/v1/event-types", "/v1/webhook-endpoints/1", "/v1/webhook-messages/1/attempts", "/v1/jobs/1"],
}
PATHS = [(path, service) for service, paths in ROUTES.items() for path in paths]
OWN = [
    (pattern.format(service), service) for service in ROUTES for pattern in ("/v1/ops/{}/queues", "/openapi/{}.json")
]
NOBODYS = ["/", "/v1", "/v1/batchesX", "/v1/me/../../livez", "/openapi/other.json", "/v1/ops", "/v1/ops/other/queues"]
INTERNAL = [
    "/livez",
    "/readyz",
    "/metrics",
    "/internal",
    "/internal/users",
    "/ping",
    "/admission",
    "/problems/503",
    "/api",
]


@pytest.mark.parametrize(("path", "service"), [*PATHS, *OWN])
def test_a_public_path_reaches_its_service(client: httpx.Client, path: str, service: str) -> None:
    """A public path is routed to the service that owns it, unchanged."""
    answer = client.get(path, params={"limit": "1"}).json()

    assert (answer["service"], answer["path"]) == (service, f"{path}?limit=1")


@pytest.mark.parametrize("path", [*NOBODYS, *INTERNAL])
def test_any_other_path_is_a_problem(client: httpx.Client, path: str) -> None:
    """What no service owns, and what is internal, is 404 as a problem and reaches no service."""
    answer = client.get(path)

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not-found"


def test_the_merged_contract_has_an_address_of_its_own(client: httpx.Client) -> None:
    """`/openapi/public.json` is no service's: the gateway answers it, with the document once it exists."""
    answer = client.get("/openapi/public.json")

    assert answer.status_code in {200, 404}
    assert "service" not in answer.json()
