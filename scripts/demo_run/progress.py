"""Progress that is pleasant on a terminal and one line per finished stage everywhere else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

T = TypeVar("T")
R = TypeVar("R")


class Step(Protocol):
    """Says that something was done, or so many at once."""

    def __call__(self, advance: float = 1, /) -> None: ...


class Stages:
    """The stages of a run, each with a bar of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @asynccontextmanager
    async def stage(self, title: str, total: int) -> AsyncIterator[Step]:
        """A bar while inside; call what is given for each thing done."""
        began = time.monotonic()
        columns = (
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        interactive = self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, disable=not interactive) as bar:
            task = bar.add_task(title, total=total)
            yield partial(bar.advance, task)
            done = int(bar.tasks[0].completed)
        self._console.print(f"{title:<34} {done:>5}   {time.monotonic() - began:5.1f} s", highlight=False)

    async def each(self, title: str, items: Iterable[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
        """Do the work for all items, many at once, with a bar; the first failure ends it. Results in the items' order."""
        given = list(items)
        async with self.stage(title, len(given)) as step:

            async def one(item: T) -> R:
                result = await work(item)
                step()
                return result

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(item)) for item in given]
        return [task.result() for task in tasks]
