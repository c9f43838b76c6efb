"""Slips are planted where they are meant, and a machine is said to find only what it finds."""

from __future__ import annotations

import pytest
from chassis.kernel import Invalid
from chassis.testing.planting import finds, plant
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule


class Till:
    """Counts money."""

    def __init__(self) -> None:
        self.coins = 0

    @property
    def empty(self) -> bool:
        """Nothing is in it."""
        return self.coins == 0

    def put(self, coins: int) -> None:
        """So many more."""
        if coins < 0:
            raise Invalid("coins are not taken here")
        self.coins += coins


class TillMachine(RuleBasedStateMachine):
    """Puts coins into a till."""

    def __init__(self) -> None:
        super().__init__()
        self.till, self.sum = Till(), 0

    @rule(coins=st.integers(0, 9))
    def put(self, coins: int) -> None:
        """The till knows what was put in."""
        self.till.put(coins)
        self.sum += coins
        assert (self.till.coins, self.till.empty) == (self.sum, self.sum == 0)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("put", "self.coins += coins", "self.coins += coins + (coins == 7)"),
        ("put", "coins < 0", "coins < 1"),
        ("empty", "self.coins == 0", "self.coins == 1"),
    ],
)
def test_a_slip_is_found_while_it_is_there(name: str, right: str, wrong: str) -> None:
    """In a method or a property, by an assertion or a refusal that should not be; and nothing is found once it is undone."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, Till, name, right, wrong)
        assert finds(TillMachine)

    assert not finds(TillMachine, examples_max=20)


@pytest.mark.parametrize("right", ["self.coins -= coins", "coins"])
def test_a_slip_has_one_place(right: str) -> None:
    """What the source does not say, or says more than once, cannot be planted: a test of it would show nothing."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError):
        plant(patch, Till, "put", right, "pass")
