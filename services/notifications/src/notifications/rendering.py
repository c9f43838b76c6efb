"""Texts for people: one template per kind and language, filled from a context that holds no personal data.

Portuguese of Brazil is the source, English the second language. Templates run in a sandbox, every name has to be
given, HTML is escaped, and no value can bring a line break into a subject.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_skeleton, format_time, get_timezone_name
from babel.numbers import format_decimal
from jinja2 import FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from notifications.domain import Kind

LocaleName = Literal["pt-BR", "en"]

LOCALES: tuple[LocaleName, ...] = ("pt-BR", "en")
DEFAULT_ZONE = "America/Sao_Paulo"  # where most places are; used only when a context names none
SUBJECT_CHARS_MAX = 150
SHORT_CHARS_MAX = 240  # what a phone shows of a push
VALUE_CHARS_MAX = 500
GOODS_SHOWN_MAX = 10
URL_CHARS_MAX = 2048
BLOCKS = ("subject", "title", "short", "body")  # what every template has

_TEMPLATES = Path(__file__).parent / "templates"
_SPACE = re.compile(r"\s+")
_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", re.ASCII)
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_JOINERS = frozenset({"\u200c", "\u200d"})  # part of honest words and emoji
_LARGER_UNITS = {"g": "kg", "ml": "l"}


@dataclass(frozen=True, slots=True)
class _Shape:
    """The keys a context has to hold and those it may hold; nothing else, so that no personal data slips in."""

    required: frozenset[str]
    optional: frozenset[str] = frozenset()


def _shape(*required: str, optional: Sequence[str] = ()) -> _Shape:
    return _Shape(frozenset(required), frozenset({"tz", "at", *optional}))


_SHAPES: Mapping[Kind, _Shape] = {
    Kind.BATCH_READY: _shape("batch_id", "items", "pickup_from", "pickup_to", optional=["use_by_at"]),
    Kind.BATCH_EXPIRED: _shape("batch_id", "items"),
    Kind.BATCH_RECALLED: _shape("batch_id", "items", "severity", "reason"),
    Kind.TEMPERATURE_ALARM: _shape("batch_id", "items", "temperature_dc", "stage"),
    Kind.HOLD_REJECTED: _shape("delivery_id", "items", "reason", optional=["batch_id"]),
    Kind.DELIVERY_OPENED: _shape("delivery_id", "items"),
    Kind.DELIVERY_CLAIMED: _shape("delivery_id", "items"),
    Kind.CLAIM_RELEASED: _shape("delivery_id", "items", optional=["reason"]),
    Kind.WAITING_CALLED: _shape("delivery_id", "items"),
    Kind.DELIVERY_PICKED_UP: _shape("delivery_id", "items"),
    Kind.DELIVERY_COMPLETED: _shape("delivery_id", "items"),
    Kind.DELIVERY_CANCELLED: _shape("delivery_id", "items", optional=["reason"]),
    Kind.DELIVERY_EXPIRED: _shape("delivery_id", "items"),
    Kind.DELIVERY_REFUSED: _shape("delivery_id", "items", optional=["reason"]),
    Kind.DELIVERY_OFFERED: _shape("delivery_id", "items"),
    Kind.DELIVERY_UNCLAIMED: _shape("delivery_id", "items", "offered"),
    Kind.PICKUP_REMINDED: _shape("delivery_id", "items", "pickup_from", optional=["confirm_by"]),
    Kind.PICKUP_DELAYED: _shape("delivery_id", "items", "due_at", "release_at"),
    Kind.DROPOFF_DELAYED: _shape("delivery_id", "items", "due_at"),
    Kind.REROUTE_ASKED: _shape("delivery_id", "items", "decide_by"),
    Kind.REROUTE_DELAYED: _shape("delivery_id", "items", "decide_by"),
    Kind.TASK_CREATED: _shape("task_id", "delivery_id", "title", "due_at"),
    Kind.TASK_EXPIRED: _shape("task_id", "delivery_id", "title", "due_at"),
    Kind.REQUEST_FULFILLED: _shape("request_id", "items"),
    Kind.RESERVATION_MADE: _shape("request_id", "reservation_id", "items", "mode"),
    Kind.RESERVATION_RECEIVED: _shape("request_id", "reservation_id", "items"),
    Kind.RESERVATION_CANCELLED: _shape("request_id", "reservation_id", "items"),
    Kind.RESERVATION_EXPIRED: _shape("request_id", "reservation_id", "items"),
    Kind.MATCH_PROPOSED: _shape("match_id", "batch_id", "request_id", "items", "expires_at"),
    Kind.MATCH_ACCEPTED: _shape("match_id", "batch_id", "request_id", "items", "reservation_id"),
    Kind.MATCH_DECLINED: _shape("match_id", "batch_id", "request_id", "items", "reason"),
    Kind.MATCH_EXPIRED: _shape("match_id", "batch_id", "request_id", "items"),
    Kind.MATCH_WITHDRAWN: _shape("match_id", "batch_id", "request_id", "items", "reason"),
    Kind.ORGANIZATION_VERIFIED: _shape("organization_id"),
    Kind.ORGANIZATION_SUSPENDED: _shape("organization_id"),
    Kind.ENDPOINT_FAILING: _shape("endpoint_id", "since", "percent"),
    Kind.ENDPOINT_DISABLED: _shape("endpoint_id", "reason"),
}


@dataclass(frozen=True, slots=True)
class Brief:
    """A notification as the inbox shows it, in one language."""

    title: str
    body: str


class ContextMismatch(ValueError):
    """The context has other keys or values than its kind takes: a mistake of the caller."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One notification in one language: e-mail (`subject`, `text`, `html`), inbox and push (`title`, `body_short`)."""

    subject: str
    text: str
    html: str
    title: str
    body_short: str


def render(
    kind: Kind | str,
    locale: str,
    context: Mapping[str, Any],
    *,
    link: str | None = None,
    unsubscribe_url: str | None = None,
) -> Rendered:
    """The texts of a notification; raises ContextMismatch when the context does not fit the kind.

    `items` is a list of `{quantity, unit, product_name}` or `{quantity, unit, category}`; times are aware datetimes
    or RFC 3339 texts, shown in the zone `tz`. An unknown language falls back to Portuguese.
    """
    name = locale_of(locale)
    values = _values(Kind(kind), name, context)
    values |= {"link": _url(link), "unsubscribe_url": _url(unsubscribe_url)}
    plain, escaped = _environments()
    blocks = _blocks(plain, kind, name, values)
    html_blocks = _blocks(escaped, kind, name, values)
    return Rendered(
        subject=_cut(blocks["subject"], SUBJECT_CHARS_MAX),
        text=_laid_out(plain, "layout.txt.jinja", values, _paragraphs(blocks["body"])),
        html=_laid_out(
            escaped,
            "layout.html.jinja",
            values | {"title": Markup(html_blocks["title"])},  # noqa: S704 - the block was escaped when rendered
            [Markup(paragraph) for paragraph in _paragraphs(html_blocks["body"])],  # noqa: S704 - likewise
        ),
        title=_cut(blocks["title"], SUBJECT_CHARS_MAX),
        body_short=_cut(blocks["short"], SHORT_CHARS_MAX),
    )


def brief(kind: Kind | str, locale: str, context: Mapping[str, Any]) -> Brief:
    """What the inbox shows; raises ContextMismatch when the context does not fit the kind."""
    name = locale_of(locale)
    plain, _ = _environments()
    blocks = _blocks(plain, kind, name, _values(Kind(kind), name, context), only=("title", "short"))
    return Brief(_cut(blocks["title"], SUBJECT_CHARS_MAX), _cut(blocks["short"], SHORT_CHARS_MAX))


def unsubscribe_page(locale: str, *, done: bool) -> str:
    """The page behind the link in a mail: it asks, for a look at a link must change nothing; or it confirms."""
    name = locale_of(locale)
    _, escaped = _environments()
    words = _words(name)["unsubscribe_page"]
    return escaped.get_template("unsubscribe.html.jinja").render(locale=name, words=words, done=done)


def locale_of(wanted: str) -> LocaleName:
    """The language we have that comes closest: English for any English, else Portuguese."""
    return "en" if re.split(r"[-_]", wanted.strip().lower())[0] == "en" else "pt-BR"


# ---------------------------------------------------------------- values


def _values(kind: Kind, locale: LocaleName, context: Mapping[str, Any]) -> dict[str, Any]:
    shape = _SHAPES[kind]
    missing = shape.required - context.keys()
    unknown = context.keys() - shape.required - shape.optional
    if missing or unknown:
        raise ContextMismatch(f"{kind}: missing {sorted(missing)}, unknown {sorted(unknown)}")
    values: dict[str, Any] = dict.fromkeys(shape.optional)
    values |= {key: _cleaned(value) for key, value in context.items() if key != "items"}
    goods = [_goods(item, locale) for item in context.get("items", ())]
    if "items" in shape.required and not goods:
        raise ContextMismatch(f"{kind}: items are empty")
    return values | _goods_values(goods, locale) | {"locale": locale, "words": _words(locale)}


def _goods_values(goods: Sequence[str], locale: LocaleName) -> dict[str, Any]:
    words, count = _words(locale), len(goods) - 1
    hidden = len(goods) - GOODS_SHOWN_MAX
    summary = words["summary_more"].format(first=goods[0], count=count) if count > 0 else "".join(goods)
    return {
        "goods": goods[:GOODS_SHOWN_MAX],
        "goods_more": words["list_more"].format(count=hidden) if hidden > 0 else "",
        "goods_summary": summary,
    }


def _goods(item: Mapping[str, Any], locale: LocaleName) -> str:
    words = _words(locale)
    unknown = item.keys() - {"quantity", "unit", "product_name", "category"}
    if unknown or not {"quantity", "unit"} <= item.keys() or not item.keys() & {"product_name", "category"}:
        raise ContextMismatch(f"an item has the keys {sorted(item)}")
    name = one_line(str(item.get("product_name") or "")) or _word(words, "category", item.get("category") or "other")
    quantity = format_quantity(item["quantity"], item["unit"], locale)
    return str(words["goods"].replace("{quantity}", quantity).replace("{name}", name))


def format_quantity(quantity: int, unit: str, locale: LocaleName) -> str:
    """The quantity as people say it: grams from 1,000 on as kilograms, millilitres as litres."""
    shown: float = quantity
    if unit in _LARGER_UNITS and quantity >= 1000:
        shown, unit = quantity / 1000, _LARGER_UNITS[unit]
    babel_locale = _babel(locale)
    forms = _words(locale)["quantity"].get(unit)
    if forms is None:
        raise ContextMismatch(f"no unit {one_line(unit)!r}")
    form = forms.get(babel_locale.plural_form(shown), forms["other"])
    return str(form.format(n=format_decimal(shown, locale=babel_locale)))


def format_moment(moment: datetime | str, zone: str | None, locale: LocaleName) -> str:
    """Day, time and zone in words, as seen in the zone of the place."""
    try:
        told = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        local = told.astimezone(ZoneInfo(zone or DEFAULT_ZONE))
    except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
        raise ContextMismatch(f"no time or zone: {moment!r}, {zone!r}") from error
    if told.tzinfo is None:
        raise ContextMismatch("a time without a zone")
    babel_locale = _babel(locale)
    day = format_skeleton("yMMMEd", local, locale=babel_locale)
    clock = format_time(local, "short", locale=babel_locale)
    return _SPACE.sub(" ", f"{day} {clock} ({get_timezone_name(local, 'short', locale=babel_locale)})")


def one_line(text: str, chars_max: int = VALUE_CHARS_MAX) -> str:
    """The text on one line, without controls, invisible or direction-changing characters, cut to its bound."""
    spaced = _SPACE.sub(" ", text)
    shown = "".join(c for c in spaced if c in _JOINERS or unicodedata.category(c) not in _HIDDEN_CATEGORIES)
    return _cut(shown, chars_max)


def _cleaned(value: Any) -> Any:
    if value is None or isinstance(value, int | float | datetime):
        return value
    return one_line(str(value))


def _url(url: str | None) -> str:
    if url is None:
        return ""
    if len(url) > URL_CHARS_MAX or _URL.fullmatch(url) is None:
        raise ContextMismatch("a link is a http or https URL")
    return url


def _cut(text: str, chars_max: int) -> str:
    line = _SPACE.sub(" ", text).strip()
    return line if len(line) <= chars_max else line[: chars_max - 1].rstrip() + "…"


# ---------------------------------------------------------------- templates


def _blocks(
    environment: ImmutableSandboxedEnvironment,
    kind: Kind | str,
    locale: LocaleName,
    values: Mapping[str, Any],
    *,
    only: Sequence[str] = BLOCKS,
) -> dict[str, str]:
    template = environment.get_template(f"{locale}/{Kind(kind)}.jinja")
    context = template.new_context(dict(values))
    return {name: "".join(template.blocks[name](context)) for name in only}


def _laid_out(
    environment: ImmutableSandboxedEnvironment, layout: str, values: Mapping[str, Any], paragraphs: Sequence[str]
) -> str:
    return environment.get_template(layout).render(**values, paragraphs=paragraphs)


def _paragraphs(body: str) -> list[str]:
    return [paragraph.strip() for paragraph in body.split("\n\n") if paragraph.strip()]


@pass_context
def _moment_filter(context: Context, moment: datetime | str) -> str:
    return format_moment(moment, context["tz"], context["locale"])


@pass_context
def _word_filter(context: Context, key: str, group: str) -> str:
    return _word(context["words"], group, key)


@pass_context
def _reason_filter(context: Context, reason: str) -> str:
    """A person's reason is theirs; the few that services give are words of ours."""
    return str(context["words"]["reason"].get(reason, reason))


@pass_context
def _celsius_filter(context: Context, temperature_dc: int) -> str:
    try:
        return f"{format_decimal(temperature_dc / 10, locale=_babel(context['locale']))} °C"
    except TypeError as error:
        raise ContextMismatch(f"no temperature: {temperature_dc!r}") from error


def _word(words: Mapping[str, Any], group: str, key: str) -> str:
    if key not in words[group]:
        raise ContextMismatch(f"no {group} {one_line(key)!r}")
    return str(words[group][key])


@cache
def _environments() -> tuple[ImmutableSandboxedEnvironment, ImmutableSandboxedEnvironment]:
    """The one that writes plain text and the one that escapes."""
    return _environment(autoescape=False), _environment(autoescape=True)


def _environment(*, autoescape: bool) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters |= {
        "moment": _moment_filter, "word": _word_filter, "reason": _reason_filter, "celsius": _celsius_filter,
    }  # fmt: skip
    return environment


@cache
def _words(locale: LocaleName) -> dict[str, Any]:
    return tomllib.loads((_TEMPLATES / locale / "words.toml").read_text(encoding="utf-8"))


@cache
def _babel(locale: LocaleName) -> Locale:
    return Locale.parse(locale, sep="-")
