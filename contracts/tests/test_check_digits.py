"""CNPJ and GTIN check digits, against other implementations' vectors and against what the algorithms promise."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from contracts.values import cnpj_is_valid, gtin_is_valid
from hypothesis import given, settings
from hypothesis import strategies as st

RULES: dict[str, Callable[[str], bool]] = {
    "cnpj": cnpj_is_valid,
    "cnpj_alphanumeric": cnpj_is_valid,
    "gtin": gtin_is_valid,
}
UNTIMED = settings(deadline=None)  # a busy machine is no finding
DIGITS = st.sampled_from(string.digits)
CNPJ_BODIES = st.text(string.digits + string.ascii_uppercase, min_size=12, max_size=12).filter(
    lambda body: len(set(body)) > 1
)


def compact(printed: str) -> str:
    """Without the punctuation of print."""
    return "".join(c for c in printed if c not in "./- ")


def with_check_digits(body: str) -> str:
    """The one valid CNPJ of a body, found by trying all hundred endings."""
    (found,) = [cnpj for ending in range(100) if cnpj_is_valid(cnpj := f"{body}{ending:02}")]
    return found


def test_known_vector(known_vector: dict[str, str]) -> None:
    """Every vector of another implementation is judged as the rule of Receita Federal or GS1 judges it."""
    assert RULES[known_vector["kind"]](compact(known_vector["value"])) == (known_vector["valid"] == "1")


def test_copied_vectors(copied_vectors: list[dict[str, str]], complete_vectors: list[dict[str, str]]) -> None:
    """The vectors that ship are a part of the complete set, hold both verdicts and are judged right."""
    assert all(row in complete_vectors for row in copied_vectors)
    assert {row["valid"] for row in copied_vectors} == {"0", "1"}
    judged = [RULES[row["kind"]](compact(row["value"])) for row in copied_vectors]
    assert judged == [row["valid"] == "1" for row in copied_vectors]


@pytest.mark.parametrize("cnpj", ["12ABC34501DE35", "00000000000191"])
def test_published_cnpj(cnpj: str) -> None:
    """The example of Receita Federal for letters, and the oldest number of all, are valid."""
    assert cnpj_is_valid(cnpj)


@pytest.mark.parametrize(
    "text",
    [
        "", "0" * 14, "A" * 12 + "00", "12abc34501de35", "12ABC34501DE3", "12ABC34501DE355", "12ABC34501DEA5",
        " 12ABC34501DE35", "12ABC34501DE35\n",
        "12.ABC.345/01DE-35", "1２ABC34501DE35", "٠٠٠٠٠٠٠٠٠٠٠١٩١", "0000000000019\u0031\u0300", "1" * 14,  # noqa: RUF001
        "\x0000000000000191"[:14],
    ],
)  # fmt: skip
def test_what_is_no_cnpj(text: str) -> None:
    """Lower case, punctuation, spaces, other scripts' digits, wrong lengths and one character repeated are refused."""
    assert not cnpj_is_valid(text)


@UNTIMED
@given(CNPJ_BODIES)
def test_one_ending_per_body(body: str) -> None:
    """Exactly one of the hundred endings of a body is valid."""
    assert with_check_digits(body).startswith(body)


@UNTIMED
@given(st.text(max_size=20))
def test_any_text_is_judged(text: str) -> None:
    """Any text at all gets a verdict, never an exception."""
    assert cnpj_is_valid(text) in (True, False)
    assert gtin_is_valid(text) in (True, False)


@pytest.mark.parametrize("gtin", ["96385074", "036000291452", "4006381333931", "6291041500213", "10614141000415"])
def test_published_gtin(gtin: str) -> None:
    """Widely printed examples of the four lengths are valid, and none is with another check digit."""
    assert [d for d in string.digits if gtin_is_valid(gtin[:-1] + d)] == [gtin[-1]]


@pytest.mark.parametrize(
    "text", ["", "0", "12345", "9638507", "963850744", "9638507٤", "400638133393a", "-4006381333931"]
)
def test_what_is_no_gtin(text: str) -> None:
    """Other lengths, letters, signs and other scripts' digits are refused."""
    assert not gtin_is_valid(text)


@UNTIMED
@given(st.sampled_from([7, 11, 12, 13]).flatmap(lambda n: st.text(string.digits, min_size=n, max_size=n)), st.data())
def test_one_wrong_digit_is_noticed(body: str, data: st.DataObject) -> None:
    """GS1's promise: any single wrong digit makes a GTIN invalid."""
    (gtin,) = [body + d for d in string.digits if gtin_is_valid(body + d)]
    at = data.draw(st.integers(0, len(gtin) - 1))
    wrong = data.draw(DIGITS.filter(lambda d: d != gtin[at]))

    assert not gtin_is_valid(gtin[:at] + wrong + gtin[at + 1 :])
