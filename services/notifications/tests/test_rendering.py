"""Every notification reads well in both languages, and no value gets out of its place."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notifications import rendering
from notifications.domain import Kind
from notifications.rendering import (
    LOCALES,
    ContextMismatch,
    LocaleName,
    brief,
    format_moment,
    format_quantity,
    locale_of,
    one_line,
    render,
    unsubscribe_page,
)

NOON = datetime(2024, 5, 6, 15, 0, tzinfo=UTC)
RICE = {"quantity": 1500, "unit": "g", "product_name": "Arroz"}
MEALS = {"quantity": 12, "unit": "portion", "category": "prepared"}
MATCH = {"match_id": "m", "batch_id": "b", "request_id": "r", "items": [MEALS]}
HOSTILE = "<script>alert(1)</script>{{ 7*7 }}{% raw %}\r\nBcc: all@example.org\u202egpj.exe\x00"

SPECIFIC: dict[Kind, dict[str, Any]] = {
    Kind.BATCH_READY: {"batch_id": "b", "items": [RICE], "pickup_from": NOON, "pickup_to": "2024-05-06T18:00:00Z"},
    Kind.HOLD_REJECTED: {"delivery_id": "d", "items": [RICE], "reason": "insufficient"},
    Kind.DELIVERY_OPENED: {"delivery_id": "d", "items": [RICE, MEALS]},
    Kind.DELIVERY_CLAIMED: {"delivery_id": "d", "items": [RICE]},
    Kind.DELIVERY_PICKED_UP: {"delivery_id": "d", "items": [RICE]},
    Kind.DELIVERY_COMPLETED: {"delivery_id": "d", "items": [RICE]},
    Kind.DELIVERY_CANCELLED: {"delivery_id": "d", "items": [RICE], "reason": "chuva"},
    Kind.DELIVERY_EXPIRED: {"delivery_id": "d", "items": [RICE]},
    Kind.DELIVERY_REFUSED: {"delivery_id": "d", "items": [RICE], "reason": "embalagem aberta"},
    Kind.DELIVERY_OFFERED: {"delivery_id": "d", "items": [RICE]},
    Kind.DELIVERY_UNCLAIMED: {"delivery_id": "d", "items": [RICE], "offered": 9},
    Kind.PICKUP_REMINDED: {"delivery_id": "d", "items": [RICE], "pickup_from": NOON},
    Kind.PICKUP_DELAYED: {"delivery_id": "d", "items": [RICE], "due_at": NOON, "release_at": "2024-05-06T15:30:00Z"},
    Kind.DROPOFF_DELAYED: {"delivery_id": "d", "items": [RICE], "due_at": NOON},
    Kind.REROUTE_ASKED: {"delivery_id": "d", "items": [RICE], "decide_by": NOON},
    Kind.REROUTE_DELAYED: {"delivery_id": "d", "items": [RICE], "decide_by": NOON},
    Kind.TASK_CREATED: {"task_id": "t", "delivery_id": "d", "title": "Lavar as caixas", "due_at": NOON},
    Kind.TASK_EXPIRED: {"task_id": "t", "delivery_id": "d", "title": "Lavar as caixas", "due_at": NOON},
    Kind.REQUEST_FULFILLED: {"request_id": "r", "items": [MEALS]},
    Kind.RESERVATION_MADE: {"request_id": "r", "reservation_id": "s", "items": [MEALS], "mode": "donor_delivers"},
    Kind.BATCH_RECALLED: {"batch_id": "b", "items": [RICE], "severity": "critical", "reason": "mofo"},
    Kind.BATCH_EXPIRED: {"batch_id": "b", "items": [RICE]},
    Kind.CLAIM_RELEASED: {"delivery_id": "d", "items": [RICE], "reason": "chuva"},
    Kind.WAITING_CALLED: {"delivery_id": "d", "items": [RICE]},
    Kind.TEMPERATURE_ALARM: {"batch_id": "b", "items": [RICE], "temperature_dc": 95, "stage": "storage"},
    Kind.RESERVATION_RECEIVED: {"request_id": "r", "reservation_id": "s", "items": [MEALS]},
    Kind.RESERVATION_CANCELLED: {"request_id": "r", "reservation_id": "s", "items": [MEALS]},
    Kind.RESERVATION_EXPIRED: {"request_id": "r", "reservation_id": "s", "items": [MEALS]},
    Kind.MATCH_PROPOSED: {**MATCH, "expires_at": NOON},
    Kind.MATCH_ACCEPTED: {**MATCH, "reservation_id": "s"},
    Kind.MATCH_DECLINED: {**MATCH, "reason": "já recebemos"},
    Kind.MATCH_EXPIRED: MATCH,
    Kind.MATCH_WITHDRAWN: {**MATCH, "reason": "batch-recalled"},
    Kind.ORGANIZATION_VERIFIED: {"organization_id": "o"},
    Kind.ORGANIZATION_SUSPENDED: {"organization_id": "o"},
    Kind.ENDPOINT_FAILING: {"endpoint_id": "e", "since": NOON, "percent": 50},
    Kind.ENDPOINT_DISABLED: {"endpoint_id": "e", "reason": "exhausted"},
}


def context_of(kind: Kind, **changes: Any) -> dict[str, Any]:
    """A fitting context, with changes."""
    return {**SPECIFIC[kind], **changes}


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("extras", [{}, {"at": NOON, "tz": "America/Manaus"}], ids=["bare", "full"])
def test_every_kind_reads_in_every_language(kind: Kind, locale: LocaleName, extras: dict[str, Any]) -> None:
    """Each template fills completely, with optional values and without."""
    rendered = render(kind, locale, context_of(kind, **extras), link="https://app.example/x")

    for text in (rendered.subject, rendered.title, rendered.body_short):
        assert text
        assert text.isprintable()
    assert len(rendered.subject) <= 150
    assert "https://app.example/x" in rendered.text
    assert 'href="https://app.example/x"' in rendered.html
    assert f'<html lang="{locale}">' in rendered.html
    for text in (rendered.text, rendered.html, rendered.subject):
        assert not {"None", "{{", "{%", "Undefined"} & set(text.replace("\n", " ").split(" "))
    if "items" in SPECIFIC[kind]:
        assert all(name in rendered.text for name in ("Arroz",) if RICE in SPECIFIC[kind]["items"])


@pytest.mark.parametrize("locale", LOCALES)
def test_no_template_is_missing_or_left_over(locale: LocaleName) -> None:
    """Each language has exactly one template per kind."""
    folder = Path(rendering.__file__).parent / "templates" / locale

    assert {path.stem for path in folder.glob("*.jinja")} == set(Kind)


def test_both_languages_know_the_same_words() -> None:
    """No word is missing in one of the languages."""
    portuguese, english = (rendering._words(locale) for locale in LOCALES)

    assert portuguese.keys() == english.keys()
    for group, words in portuguese.items():
        if isinstance(words, dict):
            assert words.keys() == english[group].keys()


@pytest.mark.parametrize("kind", [kind for kind in Kind if "items" in SPECIFIC[kind]])
@pytest.mark.parametrize("locale", LOCALES)
def test_a_hostile_product_name_stays_a_name(kind: Kind, locale: LocaleName) -> None:
    """Mark-up is escaped, template syntax is not run, and nothing starts a new line or turns the text around."""
    rendered = render(kind, locale, context_of(kind, items=[{**RICE, "product_name": HOSTILE}]))

    assert "<script>" not in rendered.html
    assert "&lt;script&gt;" in rendered.html
    assert "{{ 7*7 }}" in rendered.text
    assert "49" not in rendered.text
    for text in (rendered.subject, rendered.title, rendered.body_short):
        assert text.isprintable()
    assert not any(line.startswith("Bcc") for line in rendered.text.splitlines())
    assert "\u202e" not in rendered.text + rendered.html


@pytest.mark.parametrize(
    "kind", [Kind.DELIVERY_CANCELLED, Kind.DELIVERY_REFUSED, Kind.CLAIM_RELEASED, Kind.BATCH_RECALLED]
)
def test_a_hostile_reason_stays_a_reason(kind: Kind) -> None:
    """What a person typed as reason is escaped like everything else."""
    rendered = render(kind, "en", context_of(kind, reason=HOSTILE))

    assert "<script>" not in rendered.html
    assert "\nBcc" not in rendered.text


@pytest.mark.parametrize("kind", [Kind.TASK_CREATED, Kind.TASK_EXPIRED])
@pytest.mark.parametrize("locale", LOCALES)
def test_a_hostile_title_stays_a_title(kind: Kind, locale: LocaleName) -> None:
    """What a manager typed as a task is escaped like everything else, subjects included."""
    rendered = render(kind, locale, context_of(kind, title=HOSTILE))

    assert "<script>" not in rendered.html
    assert "{{ 7*7 }}" in rendered.text
    assert "\nBcc" not in rendered.text
    assert rendered.subject.isprintable()


@pytest.mark.parametrize(
    ("kind", "change", "portuguese", "english"),
    [
        (Kind.PICKUP_REMINDED, {}, "Retirada em breve", "Pickup soon"),
        (Kind.PICKUP_REMINDED, {"confirm_by": NOON}, "Confirme a retirada", "Please confirm the pickup"),
        (Kind.DELIVERY_UNCLAIMED, {"offered": 0}, "Não há pessoas voluntárias livres", "no free volunteers"),
        (Kind.DELIVERY_UNCLAIMED, {"offered": 1}, "oferecida a 1 pessoa da", "offered to 1 person around"),
        (Kind.DELIVERY_UNCLAIMED, {"offered": 9}, "oferecida a 9 pessoas da", "offered to 9 people around"),
    ],
)
def test_a_text_says_what_is_asked_of_its_reader(
    kind: Kind, change: dict[str, Any], portuguese: str, english: str
) -> None:
    """A claim to be confirmed, or only a reminder; how many were asked, in words that agree."""
    for locale, expected in (("pt-BR", portuguese), ("en", english)):
        rendered = render(kind, locale, context_of(kind, **change))
        assert expected in rendered.subject + rendered.text


@given(name=st.text(max_size=300), reason=st.text(min_size=1, max_size=600))
def test_any_name_and_reason_render(name: str, reason: str) -> None:
    """No text of a user breaks a notification."""
    rendered = render(
        Kind.BATCH_RECALLED,
        "pt-BR",
        context_of(Kind.BATCH_RECALLED, items=[{**RICE, "product_name": name}], reason=reason),
    )

    assert len(rendered.subject) <= 150
    assert len(rendered.subject.splitlines()) == 1
    rendered.html.encode("utf-8")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Kind.BATCH_READY, {"pickup_to": "tomorrow"}),
        (Kind.BATCH_READY, {"pickup_to": datetime(2024, 5, 6)}),  # noqa: DTZ001 - the mistake under test
        (Kind.BATCH_READY, {"pickup_to": None}),
        (Kind.BATCH_READY, {"tz": "Mars/Olympus"}),
        (Kind.BATCH_READY, {"tz": "../../etc/passwd"}),
        (Kind.BATCH_READY, {"volunteer_name": "Maria"}),
        (Kind.BATCH_READY, {"items": []}),
        (Kind.BATCH_READY, {"items": [{"quantity": 1, "unit": "g"}]}),
        (Kind.BATCH_READY, {"items": [{**RICE, "phone": "1"}]}),
        (Kind.BATCH_READY, {"items": [{**RICE, "unit": "ton"}]}),
        (Kind.BATCH_READY, {"items": [{**MEALS, "category": "gold"}]}),
        (Kind.HOLD_REJECTED, {"reason": "because"}),
        (Kind.RESERVATION_MADE, {"mode": "drone"}),
        (Kind.TEMPERATURE_ALARM, {"temperature_dc": "warm"}),
        (Kind.TEMPERATURE_ALARM, {"stage": "orbit"}),
    ],
)
def test_a_context_that_does_not_fit_is_refused(kind: Kind, change: dict[str, Any]) -> None:
    """Missing, unknown and unreadable values are mistakes of the caller, never a half-filled text."""
    with pytest.raises(ContextMismatch):
        render(kind, "en", context_of(kind, **change))


@pytest.mark.parametrize("kind", Kind)
def test_each_required_key_is_required(kind: Kind) -> None:
    """Leaving any key out is refused."""
    for key in SPECIFIC[kind]:
        context = context_of(kind)
        del context[key]
        if kind in {Kind.DELIVERY_CANCELLED, Kind.DELIVERY_REFUSED, Kind.CLAIM_RELEASED} and key == "reason":
            render(kind, "en", context)
            continue
        with pytest.raises(ContextMismatch):
            render(kind, "en", context)


def test_long_lists_are_shortened() -> None:
    """The first ten goods are named, the rest counted."""
    rendered = render(
        Kind.DELIVERY_OPENED,
        "pt-BR",
        {"delivery_id": "d", "items": [{**RICE, "product_name": f"Item {n}."} for n in range(25)]},
    )

    assert "Item 9." in rendered.text
    assert "Item 10." not in rendered.text
    assert "e mais 15" in rendered.text
    assert rendered.subject.endswith("e mais 24")


@pytest.mark.parametrize(
    ("quantity", "unit", "portuguese", "english"),
    [
        (1, "portion", "1 porção", "1 portion"),
        (12, "portion", "12 porções", "12 portions"),
        (1, "unit", "1 unidade", "1 unit"),
        (1_000_000, "unit", "1.000.000 unidades", "1,000,000 units"),
        (999, "g", "999 g", "999 g"),
        (1000, "g", "1 kg", "1 kg"),
        (1500, "g", "1,5 kg", "1.5 kg"),
        (250, "ml", "250 ml", "250 ml"),
        (2_500_000, "ml", "2.500 L", "2,500 L"),
    ],
)
def test_quantities_read_as_people_say_them(quantity: int, unit: str, portuguese: str, english: str) -> None:
    """Plural, separators and larger units follow the language."""
    assert format_quantity(quantity, unit, "pt-BR") == portuguese
    assert format_quantity(quantity, unit, "en") == english


@pytest.mark.parametrize(
    ("temperature_dc", "portuguese", "english"),
    [(95, "9,5 °C", "9.5 °C"), (-125, "-12,5 °C", "-12.5 °C"), (600, "60 °C", "60 °C"), (0, "0 °C", "0 °C")],
)
def test_temperatures_read_as_people_say_them(temperature_dc: int, portuguese: str, english: str) -> None:
    """Degrees with the comma or point of the language, from tenths."""
    context = context_of(Kind.TEMPERATURE_ALARM, temperature_dc=temperature_dc)

    assert f" {portuguese} (no armazenamento)" in render(Kind.TEMPERATURE_ALARM, "pt-BR", context).text
    assert f" {english} (in storage)" in render(Kind.TEMPERATURE_ALARM, "en", context).text


def test_times_are_those_of_the_place() -> None:
    """The same moment reads as local time, with its zone."""
    assert format_moment(NOON, "America/Sao_Paulo", "pt-BR").startswith("seg., 6 de mai. de 2024 12:00 (")
    assert "11:00" in format_moment(NOON, "America/Manaus", "pt-BR")
    assert "10:00" in format_moment("2024-05-06T15:00:00Z", "America/Rio_Branco", "pt-BR")
    assert format_moment(NOON, None, "en").startswith("Mon, May 6, 2024 12:00 PM (")


@pytest.mark.parametrize(
    ("wanted", "locale"),
    [
        ("pt-BR", "pt-BR"),
        ("pt", "pt-BR"),
        ("en", "en"),
        ("en-US", "en"),
        ("EN_gb", "en"),
        ("es", "pt-BR"),
        ("", "pt-BR"),
    ],
)
def test_the_closest_language_is_taken(wanted: str, locale: str) -> None:
    """Any English is English, all else Portuguese."""
    assert locale_of(wanted) == locale


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://x.example/\r\nBcc: y", 'https://x.example/"', "", "//x"]
)
def test_only_web_links_are_written(url: str) -> None:
    """A link that is no plain http or https URL is refused."""
    with pytest.raises(ContextMismatch):
        render(Kind.ORGANIZATION_VERIFIED, "en", {"organization_id": "o"}, link=url)


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("kind", Kind)
def test_the_inbox_shows_the_same_words(kind: Kind, locale: LocaleName) -> None:
    """Title and short text of the inbox are those of the whole notification."""
    whole = render(kind, locale, context_of(kind))

    assert brief(kind, locale, context_of(kind)) == rendering.Brief(whole.title, whole.body_short)


@pytest.mark.parametrize(
    ("told", "portuguese", "english"),
    [
        ("no-show", "a pessoa voluntária não apareceu", "the volunteer did not come"),
        ("O carro não pegou.", "O carro não pegou.", "O carro não pegou."),
    ],
)
def test_reasons_of_services_are_words_and_those_of_people_stay(told: str, portuguese: str, english: str) -> None:
    """A code of ours is translated; what a person typed is shown as it is."""
    context = context_of(Kind.CLAIM_RELEASED, reason=told)

    assert f"Motivo informado: {portuguese}" in render(Kind.CLAIM_RELEASED, "pt-BR", context).text
    assert f"Reason given: {english}" in render(Kind.CLAIM_RELEASED, "en", context).text


def test_the_unsubscribe_page_asks_before_it_confirms() -> None:
    """A look at the link shows a button and nothing done; afterwards there is no button."""
    assert '<form method="post">' in unsubscribe_page("pt-BR", done=False)
    assert "<form" not in unsubscribe_page("en", done=True)
    assert '<html lang="en">' in unsubscribe_page("en-GB", done=True)


def test_one_line_keeps_words_and_drops_what_is_invisible() -> None:
    """Accents, emoji and joiners stay; controls, direction marks and zero-width spaces go."""
    assert one_line(" Pão\tde\nqueijo \u202e\u200b👨‍🍳 ") == "Pão de queijo 👨‍🍳"
    assert one_line("x" * 600) == "x" * 499 + "…"
