"""The routes of notifications on a live process: one's own inbox and wishes, and nobody else's."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest
from chassis.kernel import new_id

from services.notifications.tests.people import Journey, People

WISHES: dict[str, Any] = {
    "locale": "en",
    "channels": {"email": True},
    "quiet_hours": {"from": "22:00", "to": "07:00", "tz": "America/Sao_Paulo"},
}


async def _inbox(client: httpx.AsyncClient, headers: dict[str, str], query: str = "") -> list[dict[str, Any]]:
    answer = await client.get(f"/v1/notifications{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def _told(people: People) -> tuple[Journey, UUID]:
    journey = await people.journey()
    event_id = await people.claimed(journey)
    await people.until_told(event_id)
    return journey, event_id


async def test_the_inbox_shows_what_happened_in_ones_language(people: People, client: httpx.AsyncClient) -> None:
    """An item says what, when, about which event; the account's language is used once it is known."""
    journey, event_id = await _told(people)
    await people.until_settled(event_id, journey.manager, journey.staff)

    [item] = await _inbox(client, journey.staff.headers)
    [ours] = await _inbox(client, journey.manager.headers)

    assert item == {
        "id": item["id"],
        "kind": "delivery_claimed",
        "title": "Delivery claimed",
        "body": "10 portions of Sopa: a volunteer will carry it.",
        "created_at": item["created_at"],
        "read_at": None,
        "event": {"type": "vouajudar.deliveries.delivery.claimed.v1", "subject": str(journey.id)},
    }
    assert ours["body"] == "10 porções de Sopa: uma pessoa voluntária vai levar."
    assert UUID(item["id"]).version == 7


async def test_reading_counts_once(people: People, client: httpx.AsyncClient) -> None:
    """The first reading's time stays, and `unread` tells read from unread."""
    journey, _ = await _told(people)
    second = await people.claimed(journey, version=2)
    await people.until_told(second)
    newest, oldest = await _inbox(client, journey.manager.headers)

    first = await client.post(f"/v1/notifications/{oldest['id']}/read", headers=journey.manager.headers)
    again = await client.post(f"/v1/notifications/{oldest['id']}/read", headers=journey.manager.headers)

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["read_at"] is not None
    assert first.json() == again.json()
    assert [item["id"] for item in await _inbox(client, journey.manager.headers, "?unread=true")] == [newest["id"]]
    assert [item["id"] for item in await _inbox(client, journey.manager.headers, "?unread=false")] == [oldest["id"]]


async def test_anothers_notification_is_not_found(people: People, client: httpx.AsyncClient) -> None:
    """Neither a colleague nor a stranger reads my inbox, and what does not exist looks the same."""
    journey, _ = await _told(people)
    [mine] = await _inbox(client, journey.manager.headers)
    stranger = await people.person()

    answers = [
        await client.post(f"/v1/notifications/{mine['id']}/read", headers=journey.staff.headers),
        await client.post(f"/v1/notifications/{mine['id']}/read", headers=stranger.headers),
        await client.post(f"/v1/notifications/{new_id()}/read", headers=journey.manager.headers),
    ]

    assert {(a.status_code, a.json()["code"]) for a in answers} == {(404, "notification-not-found")}
    assert await _inbox(client, stranger.headers) == []
    assert (await _inbox(client, journey.manager.headers))[0]["read_at"] is None


async def test_the_inbox_pages_through_everything_once(people: People, client: httpx.AsyncClient) -> None:
    """Following `next_cursor` gives each notification once, newest first; a made-up cursor is 400."""
    journey = await people.journey()
    for version in range(1, 6):
        event_id = await people.claimed(journey, version=version)
        await people.until_told(event_id)
    seen: list[str] = []
    url: str | None = "/v1/notifications?limit=2"
    while url:
        page = await client.get(url, headers=journey.manager.headers)
        seen += [item["id"] for item in page.json()["items"]]
        url = page.links["next"]["url"] if "next" in page.links else None
    bad = await client.get("/v1/notifications?cursor=abc", headers=journey.manager.headers)

    assert len(seen) == 5
    assert seen == sorted(set(seen), reverse=True)
    assert (bad.status_code, bad.json()["code"]) == (400, "bad-cursor")


async def test_wishes_are_kept_and_replaced_whole(people: People, client: httpx.AsyncClient) -> None:
    """What was put is what one gets; before that, mails come at any hour in the account's language."""
    person = await people.person()

    before = await client.get("/v1/me/preferences", headers=person.headers)
    put = await client.put("/v1/me/preferences", json=WISHES, headers=person.headers)
    after = await client.get("/v1/me/preferences", headers=person.headers)
    await client.put("/v1/me/preferences", json={"channels": {"email": False}}, headers=person.headers)
    replaced = await client.get("/v1/me/preferences", headers=person.headers)

    assert before.json() == {"locale": None, "channels": {"email": True}, "quiet_hours": None}
    assert (put.status_code, put.json(), after.json()) == (200, WISHES, WISHES)
    assert replaced.json() == {"locale": None, "channels": {"email": False}, "quiet_hours": None}


@pytest.mark.parametrize(
    "change",
    [
        {"channels": {}},
        {"channels": {"email": "yes"}},
        {"channels": {"email": 1}},
        {"channels": {"email": True, "pigeon": True}},
        {"channels": None},
        {"locale": "xx"},
        {"locale": 5},
        {"surprise": 1},
        {"quiet_hours": {"from": "24:00", "to": "07:00", "tz": "UTC"}},
        {"quiet_hours": {"from": "٢٢:00", "to": "07:00", "tz": "UTC"}},
        {"quiet_hours": {"from": "22:00", "tz": "UTC"}},
        {"quiet_hours": {"from": "22:00", "to": "07:00", "tz": "../../etc/passwd"}},
        {"quiet_hours": {"from": "22:00", "to": "07:00", "tz": ""}},
    ],
)
async def test_wishes_that_make_no_sense_are_refused(
    people: People, client: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    """Each is 422 with a code, and nothing is kept."""
    person = await people.person()

    answer = await client.put("/v1/me/preferences", json=WISHES | change, headers=person.headers)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-input")
    kept = await client.get("/v1/me/preferences", headers=person.headers)
    assert kept.json()["locale"] is None


async def test_a_zone_nobody_lives_in_is_refused(people: People, client: httpx.AsyncClient) -> None:
    """A well-formed name of no zone is 422 too, and says which field."""
    person = await people.person()
    wishes = WISHES | {"quiet_hours": {"from": "22:00", "to": "07:00", "tz": "Mars/Olympus"}}

    answer = await client.put("/v1/me/preferences", json=wishes, headers=person.headers)

    assert (answer.status_code, answer.json()["code"]) == (422, "time-zone-unknown")
    assert answer.json()["errors"][0]["pointer"] == "/quiet_hours/tz"


async def test_an_inbox_is_a_persons(people: People, client: httpx.AsyncClient) -> None:
    """A partner's key has no inbox and no wishes (403); without credentials it is 401."""
    partner = await people.callers.partner(await people.callers.organization())
    calls: list[tuple[str, str, dict[str, Any] | None]] = [
        ("GET", "/v1/notifications", None),
        ("POST", f"/v1/notifications/{new_id()}/read", None),
        ("GET", "/v1/me/preferences", None),
        ("PUT", "/v1/me/preferences", WISHES),
    ]

    keys = [await client.request(method, path, json=body, headers=partner.headers) for method, path, body in calls]
    nobody = [await client.request(method, path, json=body) for method, path, body in calls]

    assert {(a.status_code, a.json()["code"]) for a in keys} == {(403, "missing-scope")}
    assert {(a.status_code, a.json()["code"]) for a in nobody} == {(401, "unauthenticated")}


@pytest.mark.parametrize("token", ["x", "A" * 43, "%ff%fe", "a" * 5000, "ção"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_made_up_unsubscribe_link_is_not_found(
    people: People, client: httpx.AsyncClient, method: str, token: str
) -> None:
    """Nothing but the links of our own mails counts."""
    answer = await client.request(method, f"/v1/unsubscribe/{token}")

    assert (answer.status_code, answer.json()["code"]) == (404, "unsubscribe-link-unknown")
