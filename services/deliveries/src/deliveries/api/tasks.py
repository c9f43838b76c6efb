"""Tasks and the templates they are made from."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from chassis.pagination import Page, PageAsked
from chassis.routing import IfMatch, Now, Person, Tx, api_router, set_etag
from chassis.wire import Body, Integer, Reason, UtcMoment, View
from fastapi import Query, Response
from pydantic import Field, StringConstraints

from deliveries import domain, queries
from deliveries.api.bodies import Flag
from deliveries.api.routes import Reader, Writer
from deliveries.domain.tasks import DUE_MINUTES_MAX, TEMPLATES_MAX, Role, Task, TaskTemplate, TaskTemplates
from deliveries.usecases import tasks

router = api_router("tasks")

TaskStatus = Literal["open", "completed", "expired", "closed"]
TaskStage = Literal["planned", "open", "claimed", "in_transit", "rerouting"]
TaskRole = Literal["provider_member", "receiver_member", "volunteer", "coordinator"]
Key = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40)]
Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class TemplateIn(Body):
    """A task in waiting; `next` is the key of the one that is created when it is done."""

    key: Key
    stage: TaskStage
    title: Title
    role: TaskRole
    due_minutes: Annotated[Integer, Field(ge=1, le=DUE_MINUTES_MAX)]
    next: Key | None = None

    def meant(self) -> TaskTemplate:
        """As the domain knows it."""
        return TaskTemplate(
            key=self.key,
            stage=domain.Status(self.stage),
            title=self.title,
            role=Role(self.role),
            due_minutes=self.due_minutes,
            next=self.next,
        )


class TemplatesIn(Body):
    """All templates of an organization."""

    templates: Annotated[list[TemplateIn], Field(max_length=TEMPLATES_MAX)]


class TemplateOut(View):
    """A task in waiting."""

    key: str
    stage: TaskStage
    title: str
    role: TaskRole
    due_minutes: int
    next: str | None


class TemplatesOut(View):
    """All templates of an organization; version 0 while it never had any."""

    organization_id: UUID
    version: int
    templates: list[TemplateOut]

    @classmethod
    def of(cls, templates: TaskTemplates) -> Self:
        """As callers see them."""
        return cls(
            organization_id=templates.id,
            version=templates.version,
            templates=[TemplateOut.model_validate(each) for each in templates.templates],
        )


class TaskOut(View):
    """One thing to do in one stage of one delivery, for members of the assigned organizations, its volunteer, or coordinators."""

    id: UUID
    version: int
    status: TaskStatus
    allowed: list[str]
    delivery_id: UUID
    stage: TaskStage
    template_key: str
    title: str
    role: TaskRole
    organization_id: UUID
    assigned_organization_ids: list[UUID]
    volunteer_id: UUID | None
    created_at: UtcMoment
    due_at: UtcMoment
    ended_at: UtcMoment | None
    completed_by: UUID | None
    note: str | None
    closed_reason: str | None

    @classmethod
    def of(cls, task: Task) -> Self:
        """As callers see it."""
        plain = (
            "id", "version", "status", "allowed", "delivery_id", "organization_id", "assigned_organization_ids",
            "volunteer_id", "created_at", "due_at", "ended_at", "completed_by", "note", "closed_reason",
        )  # fmt: skip
        template = {
            "template_key": task.template.key,
            **{n: getattr(task.template, n) for n in ("stage", "title", "role")},
        }
        return cls.model_validate({**{name: getattr(task, name) for name in plain}, **template})


class CompleteIn(Body):
    """What there is to say of it."""

    note: Reason | None = None


# -- templates ---------------------------------------------------------------------------------------------------------


@router.get("/v1/task-templates/{organization_id}", operation_id="get_task_templates")
async def get_task_templates(organization_id: UUID, tx: Tx, principal: Reader, response: Response) -> TemplatesOut:
    """An organization's templates (its people, coordinators)."""
    templates = await tasks.templates_of(tx, principal, organization_id)
    set_etag(response, templates.version)
    return TemplatesOut.of(templates)


@router.put("/v1/task-templates/{organization_id}", operation_id="replace_task_templates")
async def replace_task_templates(
    organization_id: UUID,
    body: TemplatesIn,
    tx: Tx,
    principal: Writer,
    now: Now,
    if_match: IfMatch,
    response: Response,
) -> TemplatesOut:
    """Say anew which tasks the organization's deliveries bring (its managers); tasks that are on already stay."""
    meant = [each.meant() for each in body.templates]
    templates = await tasks.replace_templates(tx, principal, organization_id, meant, if_match=if_match, now=now)
    set_etag(response, templates.version)
    return TemplatesOut.of(templates)


# -- tasks -------------------------------------------------------------------------------------------------------------


@router.get("/v1/tasks", operation_id="list_tasks")
async def list_tasks(
    tx: Tx,
    paging: PageAsked,
    principal: Reader,
    status: Annotated[list[TaskStatus], Query(max_length=4)] = [],  # noqa: B006 - FastAPI copies defaults
    delivery_id: UUID | None = None,
    mine: Flag = False,
) -> Page[TaskOut]:
    """Tasks you may see, newest first; `mine` those that are for you."""
    wanted = queries.TaskFilter(status, delivery_id, mine)
    before = (datetime.fromisoformat(paging.position[0]), UUID(paging.position[1])) if paging.position else None
    found = await queries.tasks(tx, principal, wanted, limit=paging.limit, before=before)
    return paging.page([TaskOut.of(task) for task in found], [[task.created_at, task.id] for task in found])


@router.get("/v1/tasks/{task_id}", operation_id="get_task")
async def get_task(task_id: UUID, tx: Tx, principal: Reader, response: Response) -> TaskOut:
    """One task."""
    task = await tasks.one(tx, principal, task_id)
    set_etag(response, task.version)
    return TaskOut.of(task)


@router.post("/v1/tasks/{task_id}/complete", operation_id="complete_task")
async def complete_task(
    task_id: UUID,
    tx: Tx,
    principal: Person,
    now: Now,
    if_match: IfMatch,
    response: Response,
    body: CompleteIn | None = None,
) -> TaskOut:
    """It is done (somebody of the side it is for); the next one is created."""
    note = None if body is None else body.note
    task = await tasks.complete(tx, principal, task_id, note=note, if_match=if_match, now=now)
    set_etag(response, task.version)
    return TaskOut.of(task)
