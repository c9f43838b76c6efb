"""What goes wrong between two doors, and how it is put right: the second act, on the goods and people of the first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from scripts.demo_run.progress import Stages
from scripts.demo_run.second_act import custody, matching, safety, tasks
from scripts.demo_run.second_act.stage import Scene, Setting, Stage

__all__ = ["Scene", "SecondAct", "Stage"]

Play = Callable[[Stage, Setting], Awaitable[Scene]]
# Each plays at another provider's door; the last provider's tasks are in the way of no other scene.
SCENES: tuple[Play, ...] = (
    matching.match,
    custody.partial_pickup,
    custody.split,
    custody.rerouted,
    custody.returned,
    custody.discarded,
    safety.alarm,
    safety.recall,
    safety.expiry,
    custody.no_show,
    custody.offline,
)
CATEGORIES: dict[Play, str] = {safety.alarm: "dairy", matching.match: matching.CATEGORY}


class SecondAct:
    """All scenes at once, as many as there are volunteers for."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._given: tasks.Given | None = None

    async def prepare(self) -> None:
        """What takes a minute by itself begins before the first act's deliveries."""
        self._given = await tasks.give(self._stage, self._stage.setting(-1))

    async def play(self, stages: Stages) -> list[Scene]:
        """Every scene, in the order of the programme."""
        stage = self._stage
        calls: list[Callable[[], Awaitable[Scene]]] = [
            partial(play, stage, stage.setting(number, CATEGORIES.get(play, "prepared")))
            for number, play in enumerate(SCENES)
        ]
        return await stages.each("second act: scenes", [*calls, self._tasks], lambda call: call())

    async def _tasks(self) -> Scene:
        if self._given is None:
            raise RuntimeError("the act was not prepared")
        return await tasks.see_through(self._stage, self._given)
