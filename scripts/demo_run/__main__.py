"""The demo: `scripts/demo` starts the stack and runs this; exit code 0 when the reconciliation holds."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from scripts.demo_run import catalogue, lag, needs, partner, plan, report, stack, state, supply
from scripts.demo_run.admin import first_admin
from scripts.demo_run.client import Gateway, Json, Person, Refused
from scripts.demo_run.hands import TooSlow
from scripts.demo_run.journey import Journeys, Outcome
from scripts.demo_run.people import Cast, Casting
from scripts.demo_run.progress import Stages
from scripts.demo_run.quiet import NeverQuiet
from scripts.demo_run.receiver import RECEIPTS_FILE, Receiver
from scripts.demo_run.reconcile import reconcile, show
from scripts.demo_run.report import Fact
from scripts.demo_run.second_act import Scene, SecondAct, Stage
from scripts.demo_run.state import State
from scripts.demo_run.timings import Timings

FAILED = 1
SENT_AWAY = 3  # webhooks that the receiver refuses once, to see them come again
OFFERS_SEEN = 20  # deliveries a volunteer looks through before choosing


@dataclass
class Story:
    """What one run brought about."""

    cast: Cast
    loaded: catalogue.Loaded
    requests: list[needs.Request]
    promises: needs.Promises
    published: supply.Published
    outcome: Outcome
    scenes: list[Scene]


class Demo:
    """One run against a running stack."""

    def __init__(self, console: Console, folder: Path) -> None:
        self._console = console
        self._folder = folder
        self._settings = stack.settings(folder)
        self._state_path = folder / state.STATE_FILE
        self._known: State = state.load(self._state_path)
        self._timings = Timings()
        self._gateway = Gateway(self._settings["VAJ_PUBLIC_URL"], self._timings)
        self._stages = Stages(console)
        self._receiver = Receiver(folder / RECEIPTS_FILE, sent_away=SENT_AWAY)

    async def run(self) -> int:
        """Do the main job and what may go wrong with it, compare, tell; 0 when nothing is lost and nothing doubled."""
        began, since = time.monotonic(), datetime.now(UTC).isoformat()
        before = await lag.histograms(self._settings)
        await self._receiver.start()
        try:
            story = await self._both_acts()
            self._console.print(f"both acts done in {time.monotonic() - began:.1f} s", highlight=False)
            found = await reconcile(self._settings, story.cast.admin, receipts=self._folder / RECEIPTS_FILE)
            after = await lag.histograms(self._settings)
        finally:
            await self._rest()
        report.made(self._console, _facts(story, len(self._receiver.receipts)))
        report.scenes(self._console, [(scene.title, scene.told) for scene in story.scenes])
        report.requests(self._console, self._timings)
        lags = [lag.at_receiver(self._receiver.receipts, since=since), *lag.of_consumers(before, after)]
        report.lags(self._console, lags)
        show(self._console, found)
        report.addresses(self._console, self._settings, self._state_path, self._folder / RECEIPTS_FILE)
        self._console.print(f"\ndemo run {self._known.runs} took {time.monotonic() - began:.1f} s", highlight=False)
        return 0 if found.ok else FAILED

    async def _both_acts(self) -> Story:
        self._known.runs = run = self._known.runs + 1
        admin = state.person_of(first_admin(self._known, self._state_path))
        cast = await Casting(self._gateway, self._stages, self._known, self._state_path).assemble(admin)
        await partner.wake(self._gateway, cast.partner_key, self._receiver, self._known)
        self._save()
        loaded = await catalogue.load(self._gateway, self._stages, cast, run=run)
        requests = await needs.open_requests(self._gateway, self._stages, cast, run=run)
        promises = await needs.promise(self._gateway, self._stages, cast, requests, run=run)
        published = await supply.publish(self._gateway, self._stages, cast, run=run)
        journeys = Journeys(self._gateway, cast)
        stage = Stage(self._gateway, cast, journeys.pool)
        second = SecondAct(stage)
        await second.prepare()
        await journeys.finish(self._stages, self._known.unfinished)
        outcome = await journeys.carry(self._stages, plan.trips(cast, published.ready, requests, run=run))
        self._known.unfinished = outcome.left
        self._remember(outcome.claims)
        scenes = await second.play(self._stages)
        self._remember(stage.claims)
        await self._look_around(cast)
        return Story(cast, loaded, requests, promises, published, outcome, scenes)

    def _remember(self, made: Counter[str]) -> None:
        accounts = {account.email: name for name, account in self._known.accounts.items()}
        now = datetime.now(UTC).isoformat()
        for email, claims in made.items():
            self._known.carried.setdefault(accounts[email], []).extend([now] * claims)
        self._save()

    async def _look_around(self, cast: Cast) -> None:
        """What people look at: offers nearby, what is needed, their inbox, a history, the partner's log."""
        gateway, place = self._gateway, cast.shelters[0]
        near: Json = {"near": f"{place.lat:.4f},{place.lon:.4f}", "radius_m": 50_000, "limit": OFFERS_SEEN}

        async def look(person: Person) -> None:
            await gateway.get(person, "/v1/deliveries", status="open", **near)
            await gateway.get(person, "/v1/batches", status="ready", **near)
            await gateway.get(person, "/v1/resource-requests", **near)
            await gateway.get(person, "/v1/notifications", limit=OFFERS_SEEN)

        await self._stages.each("people look around", cast.volunteers, look)
        await gateway.get(cast.partner_key, "/v1/webhook-messages", limit=OFFERS_SEEN)

    async def _rest(self) -> None:
        """Nobody will listen from here on: the endpoint rests until the next run."""
        try:
            await partner.rest(self._gateway, self._known)
        finally:
            await self._receiver.stop()
            await self._gateway.close()

    def _save(self) -> None:
        state.save(self._state_path, self._known)


def _facts(story: Story, receipts: int) -> list[Fact]:
    outcome, published, promises, loaded = story.outcome, story.published, story.promises, story.loaded
    organizations = story.cast.organizations
    ends = ", ".join(f"{count} {status}" for status, count in sorted(outcome.ended.items()))
    needed = sum(len(request.lines) for request in story.requests)
    return [
        Fact("organizations", len(organizations), "registered with valid CNPJs, verified"),
        Fact("people", len(story.cast.people), f"{len(story.cast.volunteers)} volunteers among them"),
        Fact("places", sum(len(one.places) for one in organizations), f"{len(story.cast.shelters)} shelters"),
        Fact("needs", needed, f"in {len(story.requests)} resource requests"),
        Fact("reservations", promises.made, f"{promises.received} received, {promises.cancelled} cancelled,"
             f" {promises.refused_excess} beyond the need refused"),
        Fact("products", loaded.products, f"in the partner's catalogue, {loaded.rows_per_s:,.0f} rows a second; {loaded.changed:,} changed,"
             f" {loaded.rejected} rows refused; a list that lacked {loaded.missing:,} waited and was called off"),
        Fact("batches", published.created, f"{len(published.ready)} ready, {published.by_key} by API key,"
             f" {published.repeated} sent twice with one Idempotency-Key"),
        Fact("deliveries", outcome.planned, f"{ends}; {outcome.for_requests} for a request"),
        Fact("refused as they should be", outcome.wrong_codes_refused + outcome.claims_lost + outcome.claims_declined,
             f"{outcome.wrong_codes_refused} wrong codes, {outcome.claims_lost} claims that came second,"
             f" {outcome.claims_declined} beyond a vehicle, a time or a day"),
        Fact("webhooks received", receipts, "by the partner's receiver, signatures verified"),
    ]  # fmt: skip


def main() -> int:
    """Run the demo once."""
    console, code = report.console(), FAILED
    try:
        code = asyncio.run(_run(console))
    except* (
        stack.NotRunning,
        Refused,
        TooSlow,
        NeverQuiet,
        AssertionError,
        OSError,
        subprocess.CalledProcessError,
    ) as group:
        for error in _leaves(group):
            console.print(f"demo: {type(error).__name__}: {error}", markup=False, highlight=False)
    return code


async def _run(console: Console) -> int:
    return await Demo(console, stack.home()).run()


def _leaves(group: BaseExceptionGroup[Exception]) -> list[BaseException]:
    return [
        leaf for one in group.exceptions for leaf in (_leaves(one) if isinstance(one, BaseExceptionGroup) else [one])
    ]


if __name__ == "__main__":
    sys.exit(main())
