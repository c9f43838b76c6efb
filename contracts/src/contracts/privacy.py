"""No personal data in events: the rule that every schema is held to.

Two ways in are closed: fields named after personal data, and free text into which anything can be typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

PERSONAL_WORDS = frozenset({
    "name", "names", "nickname", "surname", "person", "age", "birth", "birthday", "gender", "photo", "picture",
    "contact", "phone", "telephone", "mobile", "cell", "whatsapp", "sms", "email", "mail", "ip",
    "address", "street", "district", "neighbourhood", "zip", "cep",
    "cpf", "rg", "passport", "document", "pix",
    "note", "notes", "comment", "message", "instructions", "description",
    "code", "codes", "otp", "totp", "pin", "password", "secret", "token",
})  # fmt: skip

# Field -> why it is no personal data. An entry that no event uses is refused by a test.
ALLOWED: Mapping[str, str] = {
    "product_name": "names goods, not a person; catalogue text that partners and dashboards show",
    "gtin": "a product number, checked at the edge of the producer",
    "reason": "why goods took another way: typed by one party for the others; the only free text about an act",
    "title": "what is to be done, as an organization's manager words its template; never about one person",
    "scopes": "words of the API, listed in contracts.values.Scope",
    "cnpjs": "company numbers or their roots, public register",
    "key_id": "the identifier of a public signing key",
    "message_id": "the identifier of an event on its way to one endpoint",
    "jwk": "the public half of a signing key (RFC 7517)",
}

_CLOSED_FORMATS = frozenset({"uuid", "date-time", "date", "time", "duration"})
_FREE_TEXT = ("Ana Souza, Rua das Flores 10", "ana@example.org")  # a pattern that lets these through closes nothing


def violations(schema: Schema, allowed: Mapping[str, str] = ALLOWED) -> list[str]:
    """`path: why` of every field of a JSON Schema that may carry personal data."""
    return [f"{path}: {why}" for path, field, why in _suspects(schema) if field not in allowed]


def suspect_fields(schema: Schema) -> set[str]:
    """Names of the fields that need an entry in `ALLOWED`."""
    return {field for _, field, _ in _suspects(schema)}


def _suspects(schema: Schema) -> Iterator[tuple[str, str, str]]:
    for path, field, body in _fields(schema, schema, ""):
        if word := PERSONAL_WORDS & set(field.lower().split("_")):
            yield path, field, f"named after personal data ({', '.join(sorted(word))})"
        elif _is_open(body, schema):
            yield path, field, "free text or of any type"


def _fields(body: Schema, root: Schema, path: str) -> Iterator[tuple[str, str, Schema]]:
    for name, field in body.get("properties", {}).items():
        yield f"{path}{name}", name, field
        for part in _parts(field, root):
            yield from _fields(part, root, f"{path}{name}.")


def _parts(body: Schema, root: Schema) -> list[Schema]:
    """The schemas that a value of this schema, or its items, may follow; references resolved, wrappers opened."""
    if "$ref" in body:
        return _parts(root["$defs"][body["$ref"].removeprefix("#/$defs/")], root)
    inner = [*body.get("anyOf", []), *body.get("allOf", []), *body.get("oneOf", [])]
    inner += [body[key] for key in ("items", "additionalProperties") if isinstance(body.get(key), dict)]
    return [part for one in inner for part in _parts(one, root)] if inner else [body]


def _is_open(body: Schema, root: Schema) -> bool:
    return any(_takes_anything(part) for part in _parts(body, root))


def _takes_anything(part: Schema) -> bool:
    if "enum" in part or "const" in part or part.get("format") in _CLOSED_FORMATS:
        return False
    if "pattern" in part:
        return any(re.search(part["pattern"], text) for text in _FREE_TEXT)
    kind = part.get("type")
    bare = {"object": "properties", "array": "items"}.get(kind or "")
    return kind in (None, "string") or (bare is not None and bare not in part)
