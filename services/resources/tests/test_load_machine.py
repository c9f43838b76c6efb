"""Catalogue loads of one company under any order of commands, workers that come twice and retries: never two at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from chassis.kernel import Invalid, InvalidTransition
from chassis.testing.planting import finds, plant
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from resources.domain import (
    LOAD_ALLOWED,
    CatalogueLoad,
    LoadId,
    LoadMode,
    LoadStatus,
    OrganizationId,
    Outcome,
    Payload,
    Survey,
    UserId,
)

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
ANA, OWNER = UserId(UUID(int=4)), OrganizationId(UUID(int=2))
CNPJ = "11222333000181"
COMMANDS = ("confirm", "cancel", "retry")
counts = st.integers(0, 50)


def a_load(number: int = 1, *, mode: LoadMode = LoadMode.FULL) -> CatalogueLoad:
    """A load as it was received."""
    payload = Payload(
        object_key=f"payloads/{number}", media_type="application/json", content_encoding="", size_bytes=1, sha256="00"
    )
    return CatalogueLoad.receive(
        LoadId(UUID(int=number)), organization_id=OWNER, cnpj=CNPJ, mode=mode, payload=payload, sequence=None,
        received_by=ANA, now=START,
    )  # fmt: skip


def a_survey(*, accepted: int = 100, active: int = 100, missing: int = 0) -> Survey:
    """A payload without anything amiss."""
    return Survey(rows=accepted, accepted=accepted, duplicates=0, rejected=0, chunks=1, active=active, missing=missing)


class LoadMachine(RuleBasedStateMachine):
    """A load, the workers that have it and the people who decide about it."""

    @initialize(mode=st.sampled_from(LoadMode))
    def arrive(self, mode: LoadMode) -> None:
        """It is received."""
        self.load, self.now, self.frozen = a_load(mode=mode), START, None
        self.said_yes = self.was_applying = False

    @rule(minutes=st.integers(1, 4000))
    def time_passes(self, minutes: int) -> None:
        """Later."""
        self.now += timedelta(minutes=minutes)

    @rule()
    def begin(self) -> None:
        """A worker begins, perhaps the second."""
        self.load.begin(now=self.now)

    @rule(
        accepted=st.sampled_from([0, 4]),
        duplicates=counts,
        rejected=counts,
        active=st.sampled_from([0, 10, 50]),
        percent=st.sampled_from([0, 20, 30, 40, 100]),
    )
    def survey(self, accepted: int, duplicates: int, rejected: int, active: int, percent: int) -> None:
        """A worker has read it, from its beginning or from where the one before it was."""
        self.load.begin(now=self.now)
        survey = Survey(
            rows=accepted + duplicates + rejected, accepted=accepted, duplicates=duplicates, rejected=rejected, chunks=1,
            active=active, missing=active * percent // 100,
        )  # fmt: skip
        self.load.surveyed(survey, confirm_by=self.now + timedelta(hours=72), now=self.now)

    @rule()
    def start(self) -> None:
        """Its turn."""
        self.load.start(now=self.now)
        self.was_applying |= self.load.status is LoadStatus.APPLYING

    @rule(failed=st.integers(0, 2))
    def finish(self, failed: int) -> None:
        """All chunks were tried."""
        self.load.finish(Outcome(inserted=1, failed_chunks=failed), now=self.now)

    @rule(ours=st.booleans())
    def break_off(self, ours: bool) -> None:
        """Something of ours broke for good, or a worker cannot read it."""
        if ours:
            self.load.fail(reason="internal", now=self.now)
        else:
            self.load.reject(reason="truncated", row=3, offset=99, now=self.now)

    @rule()
    def lapse(self) -> None:
        """A worker looks whether it was confirmed in time."""
        self.load.lapse(now=self.now)

    @rule(command=st.sampled_from(COMMANDS))
    def command(self, command: str) -> None:
        """A person says something: what is allowed has an effect, all else is refused and has none."""
        acts: dict[str, Callable[[], None]] = {
            "confirm": lambda: self.load.confirm(confirmed_by=ANA, now=self.now),
            "cancel": lambda: self.load.cancel(reason="no", cancelled_by=ANA, now=self.now),
            "retry": lambda: self.load.retry(retried_by=ANA, now=self.now),
        }
        version, allowed = self.load.version, command in self.load.allowed
        if not allowed:
            refused = False
            try:
                acts[command]()
            except InvalidTransition:
                refused = True
            assert refused
            assert self.load.version == version
            return
        acts[command]()
        self.said_yes |= command == "confirm"
        assert self.load.version == version + 1

    @invariant()
    def what_is_over_stays(self) -> None:
        """An end is final, except that what failed of an applied load may be tried again."""
        final = self.load.is_over and not self.load.allowed
        if self.frozen is not None:
            assert (self.load.status, self.load.version) == self.frozen
        if final:
            self.frozen = (self.load.status, self.load.version)

    @invariant()
    def nothing_great_is_taken_away_unasked(self) -> None:
        """A FULL that lacks more than a fifth of what is active, or is empty, was never applied without a yes."""
        survey = self.load.survey
        great = survey is not None and (survey.accepted == 0 or survey.missing > survey.active / 5)
        assert not (self.load.mode is LoadMode.FULL and great and self.was_applying and not self.said_yes)

    @invariant()
    def fold_is_state(self) -> None:
        """The stream folds to what is there."""
        assert CatalogueLoad.fold(self.load.id, self.load.pending) == self.load


TestLoads = pytest.mark.machine(LoadMachine.TestCase)


SLIPS = [
    (CatalogueLoad, "surveyed", "survey.needs_confirmation", "False"),
    (CatalogueLoad, "start", "is LoadStatus.READY", "is not LoadStatus.APPLYING"),
    (CatalogueLoad, "fail", "not self.is_over", "True"),
    (CatalogueLoad, "_require", "not in self.allowed", "in ()"),
    (Survey, "needs_confirmation", "self.accepted == 0 or ", ""),
    (Survey, "needs_confirmation", "CONFIRM_PERCENT", "CONFIRM_PERCENT * 2"),
]


@pytest.mark.parametrize(("owner", "name", "right", "wrong"), SLIPS)
def test_the_machine_finds_slips(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, right: str, wrong: str
) -> None:
    """A rule that is not kept shows within what a deep run tries."""
    plant(monkeypatch, owner, name, right, wrong)

    assert finds(LoadMachine)


@pytest.mark.parametrize(
    ("active", "missing", "accepted", "waits"),
    [(100, 20, 80, False), (100, 21, 79, True), (5, 1, 4, False), (4, 1, 3, True), (0, 0, 1, False), (0, 0, 0, True)],
)
def test_a_fifth_is_the_most_without_a_yes(active: int, missing: int, accepted: int, waits: bool) -> None:
    """A FULL waits when it lacks more than 20 % of the active products, or when it is empty; a DELTA never does."""
    survey = a_survey(accepted=accepted, active=active, missing=missing)
    full, delta = a_load(), a_load(mode=LoadMode.DELTA)

    for load in (full, delta):
        load.begin(now=START)
        load.surveyed(survey, confirm_by=START, now=START)

    assert (full.status is LoadStatus.AWAITING_CONFIRMATION) == waits
    assert delta.status is LoadStatus.READY


def test_rows_are_accounted_for() -> None:
    """A survey whose parts do not add up is refused: a row would be lost without anybody being told."""
    load = a_load()
    load.begin(now=START)

    with pytest.raises(Invalid):
        load.surveyed(Survey(rows=3, accepted=1, duplicates=0, rejected=1, chunks=1), confirm_by=START, now=START)


def test_every_status_says_what_may_be_done() -> None:
    """The table of commands knows every status."""
    assert set(LOAD_ALLOWED) == set(LoadStatus)
