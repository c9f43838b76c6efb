"""Plants slips in the code under test, so that a state machine can show that it finds them."""

from __future__ import annotations
import __future__

import inspect
import textwrap
from types import FunctionType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from chassis.kernel import DomainError

EXAMPLES_MAX = 5_000  # as many as `scripts/test --deep` tries; most slips are found among the first hundred
EXAMPLES_A_RUN = 500
STEPS = 40  # as many as the machines take


def plant(patch: pytest.MonkeyPatch, owner: object, name: str, right: str, wrong: str) -> None:
    """Until `patch` is undone the function or property `name` of a class or module says `wrong` where it says `right`.

    Raises AssertionError unless its source says `right` exactly once.
    """
    found = vars(owner)[name]
    function: FunctionType = getattr(found, "fget", found)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(right) == 1, f"{name} says {right!r} {source.count(right)} times"
    annotations = __future__.annotations.compiler_flag
    code = compile(source.replace(right, wrong), f"<{name} with a slip>", "exec", flags=annotations)
    made: dict[str, Any] = {}
    exec(code, function.__globals__, made)
    patch.setattr(owner, name, made[name])


def finds(machine: type[RuleBasedStateMachine], *, examples_max: int = EXAMPLES_MAX) -> bool:
    """Whether the machine fails within what a deep run tries; the shortest way there is not looked for.

    Hypothesis builds on what it tried before, and a run that began far off stays there: so it begins anew now and then,
    each time from another seed and always from the same ones.
    """
    return any(
        _fails(machine, from_seed=tried, examples=min(EXAMPLES_A_RUN, examples_max - tried))
        for tried in range(0, examples_max, EXAMPLES_A_RUN)
    )


def _fails(machine: type[RuleBasedStateMachine], *, from_seed: int, examples: int) -> bool:
    seeded = seed(from_seed)(type(machine.__name__, (machine,), {}))
    tried = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=False,  # Hypothesis' default where CI is set, which would begin at the same place each time
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seeded, settings=tried)
    except (AssertionError, DomainError):  # the latter where a machine's rule is never refused
        return True
    return False
