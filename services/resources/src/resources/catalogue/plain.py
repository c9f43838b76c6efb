"""Names as people search for them: without accents and case. Here and not in the database, where it costs ten times as much."""

from __future__ import annotations

import unicodedata


def plain(text: str) -> str:
    """`Açúcar Nº 1` is `acucar no 1`: decomposed for compatibility, marks dropped, case folded."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(each for each in decomposed if not unicodedata.combining(each)).casefold()
