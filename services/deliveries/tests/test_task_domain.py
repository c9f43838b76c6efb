"""Templates lead on and never round in a ring; a task is made once, for one side, and its end is an end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from chassis.kernel import Invalid, InvalidTransition
from chassis.testing.planting import finds, plant
from deliveries.domain import (
    BatchId,
    Delivery,
    DeliveryId,
    LineId,
    OrganizationId,
    PlaceId,
    PlannedLine,
    Status,
    Storage,
    UserId,
)
from deliveries.domain.tasks import (
    ALLOWED,
    TEMPLATES_MAX,
    Role,
    Task,
    TaskStatus,
    TaskTemplate,
    TaskTemplates,
    check_templates,
    task_id,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
KITCHEN, BAKERY, SHELTER, STRANGER = (OrganizationId(UUID(int=n)) for n in (30, 31, 32, 33))
KITCHEN_PLACE, SHELTER_PLACE = PlaceId(UUID(int=40)), PlaceId(UUID(int=41))
ANA, COOK = UserId(UUID(int=50)), UserId(UUID(int=51))


def template(
    key: str,
    *,
    stage: Status = Status.CLAIMED,
    role: Role = Role.PROVIDER_MEMBER,
    next: str | None = None,  # noqa: A002
) -> TaskTemplate:
    """Something to do within the hour."""
    return TaskTemplate(key=key, stage=stage, title=key, role=role, due_minutes=60, next=next)


def a_delivery() -> Delivery:
    """Ana claimed soup of the kitchen and bread of the bakery, from one place, for the shelter."""
    lines = [
        PlannedLine(
            line_id=LineId(UUID(int=n)), batch_id=BatchId(UUID(int=n)), provider_id=giver, pickup_place_id=KITCHEN_PLACE,
            product_name="x", category="prepared", storage=Storage.AMBIENT, unit="unit", quantity=1,
        )
        for n, giver in enumerate((KITCHEN, BAKERY), start=10)
    ]  # fmt: skip
    delivery = Delivery.plan(
        DeliveryId(UUID(int=1)), receiving_organization_id=SHELTER, receiving_place_id=SHELTER_PLACE, lines=lines,
        accepts=None, planned_by=COOK, now=NOON,
    )  # fmt: skip
    for line in lines:
        delivery.grant_hold(line.line_id, now=NOON)
    delivery.reassign(ANA, reason="x", now=NOON)
    return delivery


def a_task(role: Role = Role.PROVIDER_MEMBER, *, of: OrganizationId = KITCHEN) -> Task:
    """Of a template of an organization."""
    return Task.create(template("wash", role=role), delivery=a_delivery(), entry=4, organization_id=of, now=NOON)


# -- templates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("templates", "pointer"),
    [
        ([template("a"), template("a")], "/templates"),
        ([template(f"t{n}") for n in range(TEMPLATES_MAX + 1)], "/templates"),
        ([template("a", stage=Status.DELIVERED)], "/templates/0/stage"),
        ([template("a", stage=Status.OPEN, role=Role.VOLUNTEER)], "/templates/0/role"),
        ([template("a", next="b")], "/templates/0/next"),
        ([template("a", next="b"), template("b", stage=Status.OPEN)], "/templates/0/next"),
        ([template("a", next="a")], "/templates/0/next"),
        ([template("c", next="a"), template("a", next="b"), template("b", next="a")], "/templates/0/next"),
    ],
)
def test_templates_that_cannot_be_meant_are_refused(templates: list[TaskTemplate], pointer: str) -> None:
    """Keys twice, too many, stages without tasks, volunteers before the claim, and leading nowhere, astray or in a ring."""
    with pytest.raises(Invalid) as refused:
        check_templates(templates)

    assert refused.value.details["pointer"] == pointer


def test_a_stage_creates_what_nothing_leads_to() -> None:
    """The first of each chain; the others follow the one that names them."""
    templates = TaskTemplates(id=KITCHEN)
    templates.replace(
        [
            template("a", next="b"),
            template("b", next="c"),
            template("c"),
            template("d"),
            template("e", stage=Status.OPEN),
        ],
        changed_by=COOK,
    )

    assert [each.key for each in templates.first_of(Status.CLAIMED)] == ["a", "d"]
    assert [each and each.key for each in map(templates.after, "abcd")] == ["b", "c", None, None]
    assert templates.after("gone") is None


def test_the_same_templates_again_are_no_change() -> None:
    """The version moves only when something is different."""
    templates = TaskTemplates(id=KITCHEN)
    for _ in range(2):
        templates.replace([template("a")], changed_by=COOK)
    templates.replace([], changed_by=COOK)

    assert (templates.version, templates.templates) == (2, ())
    assert TaskTemplates.fold(KITCHEN, list(templates.pending)) == templates


@given(leads=st.lists(st.integers(0, 5) | st.none(), min_size=1, max_size=6))
def test_accepted_chains_come_to_an_end(leads: list[int | None]) -> None:
    """Whatever leads where: either it is refused, or following it from every first task ends, meeting no task twice."""
    made = [template(f"t{n}", next=None if to is None else f"t{to}") for n, to in enumerate(leads)]
    templates = TaskTemplates(id=KITCHEN)
    try:
        templates.replace(made, changed_by=COOK)
    except Invalid:
        return

    firsts = templates.first_of(Status.CLAIMED)
    assert firsts
    for first in firsts:
        seen, here = [first.key], templates.after(first.key)
        while here is not None:
            assert here.key not in seen
            seen.append(here.key)
            here = templates.after(here.key)


# -- tasks -------------------------------------------------------------------------------------------------------------


def test_a_task_is_for_one_side() -> None:
    """One's own people when one is on that side, everybody of that side otherwise; the volunteer; coordinators."""
    own, others = a_task(), a_task(of=SHELTER)
    receivers, volunteers, coordinators = (
        a_task(role) for role in (Role.RECEIVER_MEMBER, Role.VOLUNTEER, Role.COORDINATOR)
    )

    assert own.assigned_organization_ids == (KITCHEN,)
    assert set(others.assigned_organization_ids) == {KITCHEN, BAKERY}
    assert set(others.party_ids) == {SHELTER, KITCHEN, BAKERY}
    assert (receivers.assigned_organization_ids, receivers.place_id) == ((SHELTER,), SHELTER_PLACE)
    assert (own.place_id, own.volunteer_id) == (KITCHEN_PLACE, None)
    assert (volunteers.volunteer_id, volunteers.assigned_organization_ids, volunteers.party_ids) == (ANA, (), [KITCHEN])
    assert (coordinators.volunteer_id, coordinators.assigned_organization_ids) == (None, ())
    assert own.due_at == NOON + timedelta(hours=1)


@given(
    left=st.tuples(st.integers(1, 99), st.sampled_from([KITCHEN, SHELTER]), st.sampled_from("ab")),
    right=st.tuples(st.integers(1, 99), st.sampled_from([KITCHEN, SHELTER]), st.sampled_from("ab")),
)
def test_one_template_one_entry_one_task(
    left: tuple[int, OrganizationId, str], right: tuple[int, OrganizationId, str]
) -> None:
    """The id is the same exactly when delivery, entry, organization and template are."""
    ids = [task_id(UUID(int=1), entry=entry, organization_id=of, key=key) for entry, of, key in (left, right)]

    assert (ids[0] == ids[1]) == (left == right)
    assert task_id(UUID(int=2), entry=left[0], organization_id=left[1], key=left[2]) != ids[0]


class TaskMachine(RuleBasedStateMachine):
    """Now and then somebody completes or the stage is left; timers come early and late: in any order, again and again."""

    @initialize()
    def create(self) -> None:
        self.task, self.now = a_task(), NOON
        self.end: tuple[TaskStatus, object] | None = None

    @rule(minutes=st.sampled_from([0, 1, 29, 30]))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(note=st.none() | st.just("done with Bia"), really=st.integers(0, 5))
    def complete(self, note: str | None, really: int) -> None:
        if really:
            return
        before = self.task.version
        try:
            self.task.complete(by=COOK, note=note, now=self.now)
        except InvalidTransition:
            assert self.end is not None
            assert self.task.version == before

    @rule()
    def expire(self) -> None:
        before = self.task.status
        self.task.expire(now=self.now)
        due = self.now >= NOON + timedelta(hours=1)
        assert self.task.status is (TaskStatus.EXPIRED if due and before is TaskStatus.OPEN else before)

    @rule(really=st.integers(0, 5))
    def close(self, really: int) -> None:
        if really:
            return
        self.task.close(reason="stage-left", now=self.now)
        assert self.task.status is not TaskStatus.OPEN

    @invariant()
    def ends_are_frozen(self) -> None:
        if self.task.status is TaskStatus.OPEN:
            assert (self.end, self.task.allowed) == (None, ["complete"])
            return
        seen = (self.task.status, (self.task.version, self.task.ended_at, self.task.note, self.task.closed_reason))
        self.end = self.end or seen
        assert self.end == seen
        assert self.task.allowed == []

    @invariant()
    def it_is_what_its_events_fold_to(self) -> None:
        assert Task.fold(self.task.id, list(self.task.pending)) == self.task


TestTask = pytest.mark.machine(TaskMachine.TestCase)


@pytest.mark.parametrize(
    ("owner", "name", "right", "wrong"),
    [
        (Task, "expire", "self.due_at <= now", "self.due_at < now"),
        (Task, "expire", "self.due_at <= now", "self.due_at <= now + timedelta(minutes=1)"),
    ],
)
def test_the_machine_finds_what_is_off_by_one(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, right: str, wrong: str
) -> None:
    """A number or a comparison next to the right one breaks something that the machine watches."""
    plant(monkeypatch, owner, name, right, wrong)

    assert finds(TaskMachine)


COMMANDS: dict[str, Callable[[Task], None]] = {"complete": lambda task: task.complete(by=COOK, note=None, now=NOON)}
BROUGHT: dict[TaskStatus, Callable[[Task], None]] = {
    TaskStatus.COMPLETED: COMMANDS["complete"],
    TaskStatus.EXPIRED: lambda task: task.expire(now=NOON + timedelta(hours=1)),
    TaskStatus.CLOSED: lambda task: task.close(reason="stage-left", now=NOON),
}


def test_every_status_says_what_is_allowed() -> None:
    """The table is whole, and every command of it is tried below."""
    assert set(ALLOWED) == set(TaskStatus)
    assert COMMANDS.keys() == {command for commands in ALLOWED.values() for command in commands}


@pytest.mark.parametrize("status", list(TaskStatus))
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_the_table_decides_what_can_happen_to_a_task(status: TaskStatus, command: str) -> None:
    """A command the table allows works in that status; any other is refused, naming the status and what is allowed."""
    task = a_task()
    if status in BROUGHT:
        BROUGHT[status](task)
    assert task.status is status

    if command in ALLOWED[status]:
        COMMANDS[command](task)
        return
    with pytest.raises(InvalidTransition) as refused:
        COMMANDS[command](task)

    assert refused.value.details == {"current_status": status, "allowed": ALLOWED[status]}
