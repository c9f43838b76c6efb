"""Names as people search for them: without accents and case. Here and not in the database, where it costs ten times as much."""

from __future__ import annotations

import unicodedata


class _Plain(dict[int, str]):
    """What becomes of each character, found out once."""

    def __missing__(self, code: int) -> str:
        decomposed = unicodedata.normalize("NFKD", chr(code))
        found = "".join(each for each in decomposed if not unicodedata.combining(each)).casefold()
        self[code] = found
        return found


_PLAIN = _Plain()


def plain(text: str) -> str:
    """`Açúcar Nº 1` is `acucar no 1`: decomposed for compatibility, marks dropped, case folded."""
    return text.lower() if text.isascii() else text.translate(_PLAIN)
