"""The world of one run: time, chance, the network between processes and servers, and processes that can die."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from typing import Any
from uuid import UUID

from chassis.testing.simulation.loop import OWNER, VirtualLoop
from chassis.testing.simulation.schedule import Schedule, Weather

FLIGHT_S = (0.0005, 0.01)  # from here to a server, or back
SLOW_FLIGHT_S_MAX = 4.0
LEAVE_S = 3.0  # of each role


class Killed(BaseException):
    """What a dead process gets for whatever it still tries; nothing in it may catch this."""


class Process:
    """Roles that run until it is killed. Stopped, it takes no step, while its connections stay as they are."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.stopped = False
        self.held: list[asyncio.Handle] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self._roles: list[asyncio.Task[None]] = []
        self.clock_offset = world.random.uniform(0, 1_000)
        world.processes.append(self)

    def clock(self) -> float:
        """Its own, as steady as any other, and set as it likes."""
        return self.world.loop.time() + self.clock_offset

    def start(self, roles: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        """Run all of them; one that ends by itself is a defect."""
        context = copy_context()
        context.run(OWNER.set, self)
        self._roles = [
            self.world.loop.create_task(self._run(name, run), context=context) for name, run in roles.items()
        ]

    async def _run(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        ended = "returned"
        try:
            await run()
        except (asyncio.CancelledError, Killed):
            return
        except Exception as error:
            ended = repr(error)
        self.world.broken(f"role {name} of {self.name} ended: {ended}")

    async def leave(self) -> None:
        """As with SIGTERM: the last role is the first to go, each has its time, then there is nobody."""
        self.world.note("{} is told to leave", self.name)
        for role in reversed(self._roles):
            role.cancel()
            await asyncio.wait({role}, timeout=LEAVE_S)
        self.kill()

    def kill(self) -> None:
        """At once: nothing is finished, nothing is said. What it sent is on its way."""
        if not self.alive:
            return
        self.world.note("{} dies", self.name)
        self.world.deaths += 1
        self.alive = False
        self.go_on()
        for task in self.tasks:
            task.cancel()
        self.world.processes.remove(self)
        self.world.died(self)

    def stop(self, seconds: float) -> None:
        """As with SIGSTOP, until SIGCONT."""
        if self.alive and not self.stopped:
            self.world.note("{} is stopped for {:.3f} s", self.name, seconds)
            self.stopped = True
            self.world.loop.happen(seconds, self.go_on)

    def go_on(self) -> None:
        """As with SIGCONT."""
        if self.stopped:
            self.world.note("{} goes on", self.name)
            self.world.loop.go_on(self)

    def must_live(self) -> None:
        """The dead reach nobody."""
        if not self.alive:
            raise Killed


class World:
    """Everything shared. Each random decision is drawn from the seed, in the order in which things happen."""

    def __init__(self, schedule: Schedule, *, traced: bool) -> None:
        self.schedule = schedule
        self.loop = VirtualLoop()
        self.random = random.Random(schedule.seed ^ 0x5EED)
        self.weather = schedule.weather
        self.calm = False
        self.processes: list[Process] = []
        self.died: Callable[[Process], None] = lambda _: None
        self.violation: str | None = None
        self.names: dict[str, str] = {}
        self.deaths = 0
        self.trace: list[str] | None = [] if traced else None

    def note(self, text: str, *about: object) -> None:
        """For who reads the trace of a run: `{}` stands for what it is about, messages by their names."""
        if self.trace is not None:
            told = text.format(*(self.names.get(str(one), one) for one in about))
            self.trace.append(f"{self.loop.time():9.4f} {told}")

    def broken(self, what: str) -> None:
        """A promise is broken; the first one counts."""
        self.note("BROKEN: {}", what)
        if self.violation is None:
            self.violation = f"at {self.loop.time():.4f}: {what}"

    def calm_down(self) -> None:
        """From now on nothing breaks any more."""
        self.calm, self.weather = True, Weather()

    def new_id(self) -> UUID:
        """A UUIDv4 of this world."""
        return UUID(int=self.random.getrandbits(128), version=4)

    def chance(self, likelihood: float) -> bool:
        """Whether it happens; nothing is drawn for what cannot."""
        return likelihood > 0 and self.random.random() < likelihood

    def flight(self) -> float:
        """How long something is under way."""
        least, most = FLIGHT_S
        if self.chance(self.weather.slow):
            return self.random.uniform(most, SLOW_FLIGHT_S_MAX)
        return least + (most - least) * self.random.random()
