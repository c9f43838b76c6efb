"""An event loop whose time is told, not measured: it jumps to what comes next, and runs the same way each time."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, Protocol, TypeVar, TypeVarTuple, cast

TASKS_REMEMBERED = 64  # of one owner, before those that are done are forgotten

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Owner(Protocol):
    """A simulated process: its tasks are known, and while it is stopped none of its steps runs."""

    stopped: bool
    held: list[asyncio.Handle]
    tasks: list[asyncio.Task[Any]]


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)
_Act = tuple[Callable[..., object], tuple[Any, ...]]
_Step = tuple[asyncio.Handle | _Act, Owner | None]


class NothingLeft(Exception):
    """Everybody waits, and for nothing that could still happen."""


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio without I/O and without waiting; steps of one instant run in the order in which they were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._steps: deque[_Step] = deque()
        self._to_come: list[tuple[float, int, asyncio.Handle | _Act, Owner | None]] = []
        self.count = 0
        self.set_exception_handler(self._failed)
        self.failures: list[BaseException | str] = []  # of tasks that nobody asked for their result

    def time(self) -> float:
        return self._now

    def happen(self, delay: float, act: Callable[[*Ts], object], *args: *Ts) -> None:
        """Something outside of every process, and not to be cancelled, after a delay."""
        self.happen_at(self._now + delay, act, *args)

    def happen_at(self, when: float, act: Callable[[*Ts], object], *args: *Ts) -> None:
        """The same at an instant; what was asked for first happens first."""
        self.count += 1
        heappush(self._to_come, (when, self.count, (act, args), None))

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        context = context or copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        self._steps.append((handle, context.get(OWNER)))
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> TimerHandle:
        context = context or copy_context()
        timer = TimerHandle(when, callback, args, self, context)
        self.count += 1
        heappush(self._to_come, (when, self.count, timer, context.get(OWNER)))
        return timer

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        task = super().create_task(coro, name=cast("str | None", name), context=context)
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is not None:
            if len(owner.tasks) > TASKS_REMEMBERED:
                owner.tasks = [known for known in owner.tasks if not known.done()]
            owner.tasks.append(task)
        return task

    def go_on(self, owner: Owner) -> None:
        """Run what was asked for while the owner was stopped."""
        owner.stopped = False
        self._steps.extend((handle, owner) for handle in owner.held)
        owner.held.clear()

    def _run_once(self) -> None:
        """Everything that may happen in this instant; what that asks for is next."""
        steps = self._steps
        if not steps:
            self._jump()
        for _ in range(len(steps)):
            step, owner = steps.popleft()
            if isinstance(step, tuple):
                step[0](*step[1])
            elif owner is not None and owner.stopped:
                owner.held.append(step)
            elif not step.cancelled():
                step._run()

    def _jump(self) -> None:
        """To what comes next, and all else of that instant."""
        to_come = self._to_come
        while to_come and isinstance(to_come[0][2], asyncio.Handle) and to_come[0][2].cancelled():
            heappop(to_come)
        if not to_come:
            raise NothingLeft
        self._now = max(self._now, to_come[0][0])
        while to_come and to_come[0][0] <= self._now:
            _, _, step, owner = heappop(to_come)
            self._steps.append((step, owner))

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failures.append(context.get("exception") or context["message"])
