"""Slips are planted where they are meant, and a machine is said to find only what it finds."""

from __future__ import annotations

import pytest
from chassis.kernel import Invalid
from chassis.testing import planting
from chassis.testing.planting import finds, plant
from hypothesis import settings
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


@pytest.mark.parametrize("derandomized", [False, True])
def test_each_round_begins_elsewhere_and_each_search_where_the_last_one_did(
    monkeypatch: pytest.MonkeyPatch, derandomized: bool
) -> None:
    """Also where Hypothesis is told to begin at one place only, as it is by default where CI is set."""

    monkeypatch.setattr(planting, "EXAMPLES_A_RUN", 20)

    def seen() -> list[int]:
        coins: list[int] = []

        class Watched(TillMachine):
            """Tells what it was given."""

            @rule(more=st.integers(0, 2**60))
            def watch(self, more: int) -> None:
                """One of its draws."""
                coins.append(more)

        assert not finds(Watched, examples_max=60)
        return coins

    before = settings.get_current_profile_name()
    settings.register_profile("as CI", settings(derandomize=derandomized))
    settings.load_profile("as CI")
    try:
        first, again = seen(), seen()
    finally:
        settings.load_profile(before)

    assert first == again
    assert first != 3 * first[: len(first) // 3]
