"""A scene about things to do: a provider's templates give tasks, one after the other; one is left until its time passes."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.demo_run.client import Json, Person
from scripts.demo_run.hands import eventually
from scripts.demo_run.people import Place
from scripts.demo_run.second_act.stage import Goods, Scene, Setting, Stage, holds

FORGOTTEN_MINUTES = 1  # the shortest that a template may give
FORGOTTEN_WITHIN_S = 100.0
TEMPLATES = [
    {"key": "separar", "stage": "open", "title": "Separar as caixas", "role": "provider_member", "due_minutes": 120,
     "next": "etiquetar"},
    {"key": "etiquetar", "stage": "open", "title": "Etiquetar com a validade", "role": "provider_member", "due_minutes": 120},
    {"key": "avisar", "stage": "open", "title": "Avisar o bairro", "role": "coordinator", "due_minutes": FORGOTTEN_MINUTES},
    {"key": "conferir", "stage": "claimed", "title": "Conferir a carga", "role": "volunteer", "due_minutes": 120},
    {"key": "abrir", "stage": "in_transit", "title": "Abrir espaço na câmara", "role": "receiver_member", "due_minutes": 120},
]  # fmt: skip


@dataclass(frozen=True)
class Given:
    """A delivery with its first tasks."""

    goods: Goods
    to: Place
    delivery: str


async def give(stage: Stage, setting: Setting) -> Given:
    """The templates and a delivery that nobody claims yet. It is early: the task that is left alone takes a minute."""
    await _templates(stage, setting.pickup, TEMPLATES)
    goods, to = await stage.offer(setting.pickup, "Marmitas de legumes", 22), setting.near[0]
    return Given(goods, to, await stage.bring(goods, 22, to))


async def see_through(stage: Stage, given: Given) -> Scene:
    """Each side does what is for it; the coordinator's task expires, the receiver's is closed with the delivery."""
    giver, coordinator = given.goods.giver.manager, stage.cast.coordinator
    await _done(stage, giver, given.delivery, "separar")
    await _done(stage, giver, given.delivery, "etiquetar")
    await _task(stage, coordinator, given.delivery, "avisar", "expired")
    volunteer = await stage.volunteer(given.delivery)
    await _done(stage, volunteer, given.delivery, "conferir")
    carried = await stage.hands.pick_up(giver, volunteer, given.delivery)
    await _task(stage, given.to.organization.manager, given.delivery, "abrir", "open")
    await stage.hands.drop_off(given.to.organization.manager, volunteer, carried)
    closed = await _task(stage, given.to.organization.manager, given.delivery, "abrir", "closed")
    holds("why it is closed", closed["closed_reason"], "delivery-ended")
    await _templates(stage, given.goods.place, [])
    stage.pool.give_back(volunteer)
    return Scene("tasks", "5 of 5 templates: 3 done in turn, 1 expired after a minute, 1 closed with the delivery")


async def _templates(stage: Stage, place: Place, templates: list[Json]) -> None:
    organization = place.organization
    route, body = "/v1/task-templates/{}", {"templates": templates}
    await stage.gateway.send(organization.manager, "PUT", route, organization.id, json=body)


async def _done(stage: Stage, who: Person, delivery: str, key: str) -> None:
    task = await _task(stage, who, delivery, key, "open")
    await stage.gateway.post(who, "/v1/tasks/{}/complete", task["id"], json={"note": "Feito"})


async def _task(stage: Stage, who: Person, delivery: str, key: str, status: str) -> Json:
    """The delivery's task of a template, once it is there and has come so far."""

    async def look() -> Json | None:
        found: list[Json] = (await stage.gateway.get(who, "/v1/tasks", delivery_id=delivery))["items"]
        return next((task for task in found if (task["template_key"], task["status"]) == (key, status)), None)

    return await eventually(f"task {key} of delivery {delivery} is {status}", look, within_s=FORGOTTEN_WITHIN_S)
