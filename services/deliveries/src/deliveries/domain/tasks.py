"""Tasks: what an organization wants done whenever one of its deliveries enters a stage, by whom, and by when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

from chassis.kernel import Aggregate, Invalid, InvalidTransition

from deliveries.domain.delivery import Delivery
from deliveries.domain.terms import NIL, NO_ORGANIZATION, NO_PLACE, OrganizationId, PlaceId, Status, UserId

TEMPLATES_MAX = 50
DUE_MINUTES_MAX = 43_200  # thirty days
STAGES = (Status.PLANNED, Status.OPEN, Status.CLAIMED, Status.IN_TRANSIT, Status.REROUTING)
_CARRIED = (Status.CLAIMED, Status.IN_TRANSIT, Status.REROUTING)


class Role(StrEnum):
    """The side of a delivery that a task is for."""

    PROVIDER_MEMBER = "provider_member"
    RECEIVER_MEMBER = "receiver_member"
    VOLUNTEER = "volunteer"
    COORDINATOR = "coordinator"


class TaskStatus(StrEnum):
    """Where a task is; every one but `open` is an end."""

    OPEN = "open"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CLOSED = "closed"


ALLOWED: Mapping[TaskStatus, list[str]] = {
    TaskStatus.OPEN: ["complete"],
    TaskStatus.COMPLETED: [],
    TaskStatus.EXPIRED: [],
    TaskStatus.CLOSED: [],
}


# -- templates ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTemplate:
    """A task in waiting: created with the stage, or when the one that names it as `next` is done."""

    key: str
    stage: Status
    title: str
    role: Role
    due_minutes: int
    next: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTemplatesChanged:
    """The organization's templates are these from now on."""

    templates: tuple[TaskTemplate, ...]
    changed_by: UUID


TEMPLATE_EVENTS: dict[str, type] = {TaskTemplatesChanged.__name__: TaskTemplatesChanged}


@dataclass
class TaskTemplates(Aggregate):
    """The templates of one organization, whose id it has; version 0 has none."""

    templates: tuple[TaskTemplate, ...] = ()

    def replace(self, templates: Sequence[TaskTemplate], *, changed_by: UUID) -> None:
        """Put these in place of all others; the same again changes nothing."""
        check_templates(templates)
        if tuple(templates) != self.templates:
            self.record(TaskTemplatesChanged(templates=tuple(templates), changed_by=changed_by))

    def first_of(self, stage: Status) -> list[TaskTemplate]:
        """What entering the stage creates: every template that no other leads to."""
        followers = {template.next for template in self.templates}
        return [one for one in self.templates if one.stage is stage and one.key not in followers]

    def after(self, key: str) -> TaskTemplate | None:
        """What completing a task of this template creates, as the templates are now."""
        known = {template.key: template for template in self.templates}
        done = known.get(key)
        return None if done is None or done.next is None else known[done.next]

    def _on_TaskTemplatesChanged(self, event: TaskTemplatesChanged) -> None:  # noqa: N802
        self.templates = event.templates


def check_templates(templates: Sequence[TaskTemplate]) -> None:
    """Keys are unique, a volunteer's task needs a volunteer, and `next` leads on within the stage, never round in a ring."""
    known = {template.key: template for template in templates}
    if len(templates) > TEMPLATES_MAX or len(known) < len(templates):
        raise Invalid(f"at most {TEMPLATES_MAX} templates, each key once", pointer="/templates")
    for number, template in enumerate(templates):
        pointer = f"/templates/{number}"
        if template.stage not in STAGES:
            raise Invalid("no tasks begin in this stage", pointer=f"{pointer}/stage")
        if template.role is Role.VOLUNTEER and template.stage not in _CARRIED:
            raise Invalid("there is no volunteer yet in this stage", pointer=f"{pointer}/role")
        if template.next is not None and known.get(template.next, template).stage is not template.stage:
            raise Invalid("the next task is one of the same stage", pointer=f"{pointer}/next")
        if template.next is not None and template.next not in known:
            raise Invalid("there is no such template", pointer=f"{pointer}/next")
        if _leads_into_a_ring(template, known):
            raise Invalid("this leads round in a ring", pointer=f"{pointer}/next")


def _leads_into_a_ring(template: TaskTemplate, known: Mapping[str, TaskTemplate]) -> bool:
    seen, key = {template.key}, template.next
    while key is not None:
        if key in seen:
            return True
        seen.add(key)
        key = known[key].next if key in known else None
    return False


# -- tasks -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCreated:
    """Somebody of a side has something to do."""

    delivery_id: UUID
    entry: int
    organization_id: OrganizationId
    template: TaskTemplate
    assigned_organization_ids: tuple[OrganizationId, ...]
    volunteer_id: UserId | None
    place_id: PlaceId
    created_at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCompleted:
    """It is done."""

    completed_by: UserId
    completed_at: datetime
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskExpired:
    """Its due time passed."""

    expired_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClosed:
    """The delivery went on; it need not be done any more."""

    closed_at: datetime
    reason: str


TASK_EVENTS: dict[str, type] = {
    event.__name__: event for event in (TaskCreated, TaskCompleted, TaskExpired, TaskClosed)
}
_NO_TEMPLATE = TaskTemplate(key="", stage=Status.PLANNED, title="", role=Role.COORDINATOR, due_minutes=1)


@dataclass
class Task(Aggregate):
    """One thing to do in one stage of one delivery: done by somebody of its side, or over."""

    delivery_id: UUID = NIL
    entry: int = 0
    organization_id: OrganizationId = NO_ORGANIZATION
    template: TaskTemplate = _NO_TEMPLATE
    assigned_organization_ids: tuple[OrganizationId, ...] = ()
    volunteer_id: UserId | None = None
    place_id: PlaceId = NO_PLACE
    status: TaskStatus = TaskStatus.OPEN
    created_at: datetime | None = None
    due_at: datetime | None = None
    ended_at: datetime | None = None
    completed_by: UserId | None = None
    note: str | None = None
    closed_reason: str | None = None
    party_ids: list[OrganizationId] = field(default_factory=list)

    @classmethod
    def create(
        cls, template: TaskTemplate, *, delivery: Delivery, entry: int, organization_id: OrganizationId, now: datetime
    ) -> Task:
        """The task of a template in this stage of a delivery; its id says so, hence there is one."""
        task = cls(id=task_id(delivery.id, entry=entry, organization_id=organization_id, key=template.key))
        receiver = template.role is Role.RECEIVER_MEMBER
        task.record(
            TaskCreated(
                delivery_id=delivery.id,
                entry=entry,
                organization_id=organization_id,
                template=template,
                assigned_organization_ids=_assigned(template.role, delivery, organization_id),
                volunteer_id=delivery.volunteer_id if template.role is Role.VOLUNTEER else None,
                place_id=delivery.receiving_place_id if receiver else delivery.pickup_place_id,
                created_at=now,
                due_at=now + timedelta(minutes=template.due_minutes),
            )
        )
        return task

    @property
    def allowed(self) -> list[str]:
        """The commands a person may give now."""
        return ALLOWED[self.status]

    def complete(self, *, by: UserId, note: str | None, now: datetime) -> None:
        """It is done; whoever comes second finds it done."""
        if "complete" not in self.allowed:
            raise InvalidTransition(status=self.status, allowed=self.allowed)
        self.record(TaskCompleted(completed_by=by, completed_at=now, note=note))

    def expire(self, *, now: datetime) -> None:
        """A timer ends an open task when its due time has passed; early or late, it records nothing."""
        if self.status is TaskStatus.OPEN and self.due_at is not None and self.due_at <= now:
            self.record(TaskExpired(expired_at=now))

    def close(self, *, reason: str, now: datetime) -> None:
        """The stage it belongs to is over; what has ended stays as it is."""
        if self.status is TaskStatus.OPEN:
            self.record(TaskClosed(closed_at=now, reason=reason))

    # -- folding -------------------------------------------------------------------------------------------------------

    def _on_TaskCreated(self, event: TaskCreated) -> None:  # noqa: N802
        self.delivery_id, self.entry, self.organization_id = event.delivery_id, event.entry, event.organization_id
        self.template, self.assigned_organization_ids = event.template, event.assigned_organization_ids
        self.volunteer_id, self.place_id = event.volunteer_id, event.place_id
        self.created_at, self.due_at = event.created_at, event.due_at
        self.party_ids = list(dict.fromkeys([event.organization_id, *event.assigned_organization_ids]))

    def _on_TaskCompleted(self, event: TaskCompleted) -> None:  # noqa: N802
        self.status, self.ended_at = TaskStatus.COMPLETED, event.completed_at
        self.completed_by, self.note = event.completed_by, event.note

    def _on_TaskExpired(self, event: TaskExpired) -> None:  # noqa: N802
        self.status, self.ended_at = TaskStatus.EXPIRED, event.expired_at

    def _on_TaskClosed(self, event: TaskClosed) -> None:  # noqa: N802
        self.status, self.ended_at, self.closed_reason = TaskStatus.CLOSED, event.closed_at, event.reason


def task_id(delivery_id: UUID, *, entry: int, organization_id: UUID, key: str) -> UUID:
    """The one id of a template's task in one entry of a delivery into a stage."""
    return uuid5(delivery_id, f"task:{entry}:{organization_id}:{key}")


def _assigned(role: Role, delivery: Delivery, organization_id: OrganizationId) -> tuple[OrganizationId, ...]:
    """Whose members it is for: the organization's own when it is on that side, else everybody of that side."""
    sides: dict[Role, list[OrganizationId]] = {
        Role.PROVIDER_MEMBER: delivery.provider_ids,
        Role.RECEIVER_MEMBER: [delivery.receiving_organization_id],
    }
    side = sides.get(role, [])
    return (organization_id,) if organization_id in side else tuple(side)
