"""Loads and saves tasks and their templates."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from chassis.database import Transaction
from chassis.kernel import NotFound
from chassis.repository import Repository

from deliveries.domain.tasks import TASK_EVENTS, TEMPLATE_EVENTS, Task, TaskTemplates
from deliveries.public_events import announce_task, announce_templates


class TaskNotFound(NotFound):
    """No such task, or not for this caller."""

    slug = "task-not-found"


def _task_columns(task: Task) -> dict[str, Any]:
    return {
        "status": task.status,
        "delivery_id": task.delivery_id,
        "entry": task.entry,
        "organization_id": task.organization_id,
        "template_key": task.template.key,
        "role": task.template.role,
        "party_ids": task.party_ids,
        "assigned_ids": list(task.assigned_organization_ids),
        "volunteer_id": task.volunteer_id,
        "created_at": task.created_at,
        "due_at": task.due_at,
    }


TASKS = Repository(
    table="tasks",
    aggregate=Task,
    events=TASK_EVENTS,
    columns=_task_columns,
    announce=announce_task,
    not_found=TaskNotFound,
)


def _no_columns(_: TaskTemplates) -> dict[str, Any]:
    return {}


TEMPLATES = Repository(
    table="task_templates",
    aggregate=TaskTemplates,
    events=TEMPLATE_EVENTS,
    columns=_no_columns,
    announce=announce_templates,
)


async def delivery_of(tx: Transaction, task_id: UUID) -> UUID:
    """The delivery that a task is about; raises `TaskNotFound`."""
    delivery_id: UUID | None = await tx.fetchval("SELECT delivery_id FROM tasks WHERE id = $1", task_id)
    if delivery_id is None:
        raise TaskNotFound
    return delivery_id


async def open_of(tx: Transaction, delivery_id: UUID) -> list[UUID]:
    """The open tasks of a delivery."""
    sql = "SELECT id FROM tasks WHERE delivery_id = $1 AND status = 'open' ORDER BY id"
    return [row["id"] for row in await tx.fetch(sql, delivery_id)]


async def known(tx: Transaction, task_ids: Collection[UUID]) -> set[UUID]:
    """Those of the ids that are tasks already."""
    rows = await tx.fetch("SELECT id FROM tasks WHERE id = ANY($1::uuid[])", list(task_ids))
    return {UUID(int=row["id"].int) for row in rows}


async def templates_of(tx: Transaction, organization_ids: Collection[UUID]) -> list[UUID]:
    """Those of the organizations that have templates."""
    sql = "SELECT id FROM task_templates WHERE id = ANY($1::uuid[]) ORDER BY id"
    return [row["id"] for row in await tx.fetch(sql, list(organization_ids))]
