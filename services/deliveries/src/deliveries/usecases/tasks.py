"""Tasks and their templates: created with a stage, done by somebody of their side, over when their time or the stage is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis import timers
from chassis.access import Principal
from chassis.database import Transaction
from chassis.kernel import ConcurrentUpdate, Forbidden, NotFound
from chassis.processes import Process, ProcessKind

from deliveries.domain import Delivery, OrganizationId, Status, UserId
from deliveries.domain.tasks import Role, Task, TaskStatus, TaskTemplate, TaskTemplates, task_id
from deliveries.repository import DELIVERIES
from deliveries.repository import tasks as repository
from deliveries.repository.tasks import TASKS, TEMPLATES, TaskNotFound

DUE = "task-due"


@dataclass
class Stay:
    """The stage whose tasks are on: leaving it, or entering it anew, closes them."""

    stage: Status = Status.PLANNED


KIND = ProcessKind("tasks", Stay)  # runs while a delivery is in a stage that has tasks; its run is the entry


class NotYourTask(Forbidden):
    """The caller sees the task but it is for somebody else."""

    slug = "not-your-task"


class NotYourOrganization(Forbidden):
    """Only the organization's managers may do this."""

    slug = "not-your-organization"


class OrganizationNotFound(NotFound):
    """No such organization, or not for this caller."""

    slug = "organization-not-found"


# -- who ---------------------------------------------------------------------------------------------------------------


def may_see(principal: Principal, task: Task) -> bool:
    """The organization whose template it is, the side it is for, and coordinators."""
    return (
        principal.is_coordinator
        or principal.id == task.volunteer_id
        or any(principal.acts_for(each) for each in task.party_ids)
    )


def may_complete(principal: Principal, task: Task) -> bool:
    """Somebody of the side that the task is for."""
    match task.template.role:
        case Role.VOLUNTEER:
            return principal.id == task.volunteer_id
        case Role.COORDINATOR:
            return principal.is_coordinator
        case _:
            return any(principal.acts_for(each) for each in task.assigned_organization_ids)


# -- templates ---------------------------------------------------------------------------------------------------------


async def templates_of(tx: Transaction, principal: Principal, organization_id: UUID) -> TaskTemplates:
    """An organization's templates, for its people and coordinators; version 0 while there are none."""
    if not (principal.acts_for(organization_id) or principal.is_coordinator):
        raise OrganizationNotFound
    return await TEMPLATES.find(tx, organization_id) or TaskTemplates(id=organization_id)


async def replace_templates(
    tx: Transaction,
    principal: Principal,
    organization_id: UUID,
    templates: Sequence[TaskTemplate],
    *,
    if_match: int | None,
    now: datetime,
) -> TaskTemplates:
    """A manager says anew what the organization wants done; what is on already stays."""
    kept = await templates_of(tx, principal, organization_id)
    if not principal.manages(organization_id):
        raise NotYourOrganization("only the organization's managers may do this")
    kept.expect_version(if_match)
    kept.replace(templates, changed_by=principal.id)
    TEMPLATES.save(tx, kept, now=now)
    return kept


# -- with the delivery -------------------------------------------------------------------------------------------------


async def entered(tx: Transaction, delivery: Delivery, *, version: int | None, now: datetime) -> None:
    """The delivery, which the caller holds, may have changed its stage; with `version` it entered the one it is in.

    Being refused again while it is rerouted already is no new entry.
    """
    stay = await KIND.running(tx, delivery.id)
    if stay is not None and _goes_on(stay, delivery, version):
        return
    if stay is not None:
        await _close_open(tx, delivery, reason="delivery-ended" if delivery.ended else "stage-left", now=now)
        stay.end(delivery.status.value)
        KIND.save(tx, stay, now=now)
        await tx.flush()
    if version is not None and not delivery.ended:
        await _begin(tx, delivery, entry=version, now=now)


def _goes_on(stay: Process[Stay], delivery: Delivery, version: int | None) -> bool:
    same = stay.state.stage is delivery.status
    return same and (version is None or version <= stay.run or delivery.status is Status.REROUTING)


async def _begin(tx: Transaction, delivery: Delivery, *, entry: int, now: datetime) -> None:
    wanted = await _first_templates(tx, delivery)
    if not wanted:
        return
    stay = await KIND.begin(tx, delivery.id, run=entry, state=Stay(delivery.status), deadline=None, now=now)
    if stay is not None:
        stay.take("created", now=now, tasks=len(wanted))
        KIND.save(tx, stay, now=now)
        await _create(tx, delivery, wanted, entry=entry, now=now)


async def _first_templates(tx: Transaction, delivery: Delivery) -> list[tuple[OrganizationId, TaskTemplate]]:
    """What entering its stage creates, for who gives and who receives."""
    concerned = dict.fromkeys([*delivery.provider_ids, delivery.receiving_organization_id])
    found = [await TEMPLATES.get(tx, each) for each in await repository.templates_of(tx, concerned)]
    return [(OrganizationId(each.id), template) for each in found for template in each.first_of(delivery.status)]


async def _create(
    tx: Transaction,
    delivery: Delivery,
    wanted: Iterable[tuple[OrganizationId, TaskTemplate]],
    *,
    entry: int,
    now: datetime,
) -> None:
    by_id = {
        task_id(delivery.id, entry=entry, organization_id=organization_id, key=template.key): (
            organization_id,
            template,
        )
        for organization_id, template in wanted
    }
    for made in by_id.keys() - await repository.known(tx, by_id):
        organization_id, template = by_id[made]
        task = Task.create(template, delivery=delivery, entry=entry, organization_id=organization_id, now=now)
        _save(tx, task, now=now)
        tx.end_step()


async def _close_open(tx: Transaction, delivery: Delivery, *, reason: str, now: datetime) -> None:
    for open_id in await repository.open_of(tx, delivery.id):
        task = await TASKS.get(tx, open_id)
        task.close(reason=reason, now=now)
        _save(tx, task, now=now)
        tx.end_step()


# -- by people and timers ----------------------------------------------------------------------------------------------


async def one(tx: Transaction, principal: Principal, asked_id: UUID) -> Task:
    """A task that the caller may see."""
    task = await TASKS.get(tx, asked_id)
    if not may_see(principal, task):
        raise TaskNotFound
    return task


async def complete(
    tx: Transaction, principal: Principal, asked_id: UUID, *, note: str | None, if_match: int | None, now: datetime
) -> Task:
    """Somebody of its side did it; the next one is created, unless the delivery has left the stage.

    Whoever changes a delivery's tasks holds their process first, then the delivery, then the tasks.
    """
    if not tx.locking:
        raise ConcurrentUpdate
    stay = await KIND.running(tx, await repository.delivery_of(tx, asked_id))
    task = await one(tx, principal, asked_id)
    task.expect_version(if_match)
    if not may_complete(principal, task):
        raise NotYourTask("only the side that the task is for may do this")
    task.complete(by=UserId(principal.id), note=note, now=now)
    _save(tx, task, now=now)
    if stay is not None and stay.run == task.entry:
        await _create_next(tx, task, now=now)
    return task


async def _create_next(tx: Transaction, done: Task, *, now: datetime) -> None:
    templates = await TEMPLATES.find(tx, done.organization_id)
    following = None if templates is None else templates.after(done.template.key)
    if following is not None:
        delivery = await DELIVERIES.get(tx, done.delivery_id)
        if delivery.status is following.stage:
            await _create(tx, delivery, [(done.organization_id, following)], entry=done.entry, now=now)


async def expire(tx: Transaction, due_id: UUID, *, now: datetime) -> None:
    """An open task's time may be over; a timer that came early is set again."""
    task = await TASKS.get(tx, due_id)
    task.expire(now=now)
    if task.pending:
        _save(tx, task, now=now)
    else:
        _set_timer(tx, task)


def _save(tx: Transaction, task: Task, *, now: datetime) -> None:
    _set_timer(tx, task)
    TASKS.save(tx, task, now=now)


def _set_timer(tx: Transaction, task: Task) -> None:
    key = f"{DUE}:{task.id}"
    if task.status is TaskStatus.OPEN and task.due_at is not None:
        timers.schedule(tx, due_at=task.due_at, key=key, payload={"kind": DUE, "task_id": str(task.id)})
    else:
        timers.cancel(tx, key=key)
