"""One run: the schedule happens, the world calms down, everything comes to rest, and the promises are checked."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import structlog
from contracts.topology import dead_letter_queue, queue

from chassis import crashpoints
from chassis.telemetry import Context, in_context
from chassis.testing.simulation.broker import HEARTBEATS_MISSED_S, Broker
from chassis.testing.simulation.checks import Ledger, left_over
from chassis.testing.simulation.database import Database
from chassis.testing.simulation.loop import OWNER, NothingLeft
from chassis.testing.simulation.producer import Producer
from chassis.testing.simulation.redrives import operate
from chassis.testing.simulation.schedule import Change, Fault, Schedule, schedule_of
from chassis.testing.simulation.service import CANCEL_SEEN_S, SERVICE, Plan, declare, start_consumers, start_relay
from chassis.testing.simulation.world import Killed, Process, World

RESTART_S = (0.05, 0.8)
LOOK_S = 0.25
OPERATOR_S = 1.0  # between two looks at the dead letters before it is calm
REST_S_MAX = 120.0  # of calm; what has not come to rest by then never will
NOBODY = Context(trace_id="0" * 32, span_id="0" * 16, sampled=False, correlation_id="simulation")


@dataclass(frozen=True)
class Outcome:
    """How one run went; `violation` is None when every promise was kept."""

    schedule: Schedule
    violation: str | None
    seconds: float  # of the world's own time
    applied: int
    deaths: int
    digest: str  # of everything that happened, in its order
    trace: tuple[str, ...]


def run(seed: int, *, traced: bool = False) -> Outcome:
    """The run of a seed, the same each time."""
    return Run(schedule_of(seed), traced=traced).outcome()


class Run:
    """The world with its servers and processes, and what is done to them."""

    def __init__(self, schedule: Schedule, *, traced: bool) -> None:
        self._schedule = schedule
        self._world = world = World(schedule, traced=traced)
        self._broker = Broker(world, dead=dead_letter_queue(SERVICE))
        self._database = Database(world)
        self._subjects = [world.new_id() for _ in range(schedule.subjects)]
        world.names |= {str(subject): letter for subject, letter in zip(self._subjects, "abc", strict=False)}
        self._producer = Producer(world, self._database, self._subjects, SERVICE)
        self._plan = Plan(world, self._subjects)
        self._ledger = Ledger(world, self._database.tables)
        self._leaving: list[asyncio.Task[None]] = []
        self._starts: dict[str, Callable[[str], Process]] = {}
        world.died = self._died

    def outcome(self) -> Outcome:
        """Run it to its end."""
        world, loop = self._world, self._world.loop
        declare(self._broker, delivery_limit=self._schedule.delivery_limit)
        with _crashing(world), _logged(world), in_context(NOBODY):
            try:
                loop.run_until_complete(self._whole())
            except NothingLeft:
                world.broken("everybody waits, and nothing is to come")
            loop.run_until_complete(self._end())
            loop.close()
        for failure in loop.failures:
            if not isinstance(failure, Killed):
                world.broken(f"nobody looked at {failure!r}")
        told = (loop.time(), loop.count, world.random.random(), self._ledger.told())
        digest = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
        return Outcome(
            self._schedule, world.violation, loop.time(), self._ledger.count, world.deaths, digest,
            tuple(world.trace or ()),
        )  # fmt: skip

    async def _whole(self) -> None:
        loop, schedule = self._world.loop, self._schedule
        self._start_processes()
        for change in schedule.changes:
            loop.happen(change.at, self._producer.command, change)
        for fault in schedule.faults:
            loop.happen(fault.at, self._disturb, fault)
        while loop.time() + OPERATOR_S < schedule.calm_at:
            await asyncio.sleep(OPERATOR_S)
            operate(self._world, self._database)
        await asyncio.sleep(schedule.calm_at - loop.time())
        self._calm_down()
        await self._rest()

    async def _rest(self) -> None:
        world = self._world
        deadline = world.loop.time() + REST_S_MAX
        while world.violation is None:
            await asyncio.sleep(LOOK_S)
            operate(world, self._database)
            left = left_over(self._database.tables, self._broker)
            if not left and not self._producer.unfinished:
                return self._ledger.check(self._subjects)
            if world.loop.time() > deadline:
                world.broken(f"no rest: {', '.join(left)}, {self._producer.unfinished} commands")
        return None

    def _start_processes(self) -> None:
        world, broker, database = self._world, self._broker, self._database
        for number in range(self._schedule.relays):
            self._starts[f"relay {number}"] = partial(start_relay, world, broker, database)
        for number in range(self._schedule.consumers):
            self._starts[f"consumers {number}"] = partial(
                start_consumers, world, broker, database, plan=self._plan, applied=self._ledger.applied
            )
        for name, start in self._starts.items():
            start(name)

    def _died(self, process: Process) -> None:
        self._database.client_died(process)
        self._broker.client_died(process)
        self._world.loop.happen(self._world.random.uniform(*RESTART_S), self._restart, process.name)

    def _restart(self, name: str) -> None:
        self._world.note("{} starts", name)
        self._starts[name](name)

    async def _end(self) -> None:
        """Every task sees its end."""
        self._world.died, deaths = lambda _: None, self._world.deaths
        tasks = [task for process in self._world.processes for task in process.tasks]
        for process in self._world.processes[:]:
            process.kill()
        await asyncio.gather(*tasks, *self._leaving, return_exceptions=True)
        self._world.deaths = deaths

    def _calm_down(self) -> None:
        world = self._world
        world.note("calm")
        world.calm_down()
        self._plan.mend()
        self._database.come_up()
        self._broker.come_up()
        for process in world.processes:
            process.go_on()
        for subject in range(len(self._subjects)):  # behind what was lost there is one that shows the gap
            self._producer.command(Change(world.loop.time(), subject, (True,), 0.0, rolled_back=False))

    def _disturb(self, fault: Fault) -> None:
        world, broker = self._world, self._broker
        world.note("fault: {}, target {}", fault.kind, fault.target)
        process = world.processes[fault.target % len(world.processes)] if world.processes else None
        match fault.kind:
            case "kill" if process:
                process.kill()
            case "leave" if process:
                self._leaving.append(world.loop.create_task(process.leave()))
            case "stop" if process:
                process.stop(fault.lasts_s)
                world.loop.happen(HEARTBEATS_MISSED_S, broker.missed_heartbeats, process)
            case "cut publisher" if broker.links:
                broker.links[fault.target % len(broker.links)].cut()
            case "cut consumer" if broker.channels:
                broker.cut_consumers(broker.channels[fault.target % len(broker.channels)].process)
            case "cancel consumer" if broker.channels:
                channel = broker.channels[fault.target % len(broker.channels)]
                channel.silenced = True
                world.loop.happen(CANCEL_SEEN_S, broker.cut_consumers, channel.process)
            case "database down":
                self._database.go_down(fault.lasts_s)
            case "broker down":
                broker.go_down(fault.lasts_s)
            case "broker blocks":
                broker.blocked_until = world.loop.time() + fault.lasts_s
            case "broker refuses":
                broker.refuses_until = world.loop.time() + fault.lasts_s
            case "lose a message":
                broker.lose(queue(SERVICE, "gated"), fault.target)


@contextmanager
def _logged(world: World) -> Iterator[None]:
    """What relay and consumers log becomes part of a trace."""

    def tell(_: Any, level: str, entry: MutableMapping[str, Any]) -> NoReturn:
        about = " ".join(
            f"{name}={world.names.get(str(value), value)}" for name, value in entry.items() if name != "event"
        )
        owner = OWNER.get()
        who = owner.name if isinstance(owner, Process) else "-"
        world.note("{} {} {} {}", who, level, entry["event"], about)
        raise structlog.DropEvent

    if world.trace is None:
        yield
        return
    before = structlog.get_config()
    structlog.configure(processors=[tell])
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def _crashing(world: World) -> Iterator[None]:
    """Processes die at places of `chassis.crashpoints`, as likely as the weather has it."""

    def reached(name: str) -> None:
        process = OWNER.get()
        if isinstance(process, Process) and world.chance(world.weather.crash):
            world.note("{} reached {}", process.name, name)
            process.kill()
            raise Killed

    crashpoints.install(reached)
    try:
        yield
    finally:
        crashpoints.install(None)
