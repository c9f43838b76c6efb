"""The formats a catalogue comes in, all read as the same thing: numbered rows of one line of JSON each."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import aclosing

from resources.catalogue.blocks import blocks_of
from resources.catalogue.csv_rows import CsvRows
from resources.catalogue.json_rows import ArrayRows, LineRows
from resources.catalogue.rows import Broken, CatalogueUnreadable, Fault, Limits, RawRow, Splitter

NDJSON, JSON, CSV = "application/x-ndjson", "application/json", "text/csv"
MEDIA_TYPES = (NDJSON, JSON, CSV)
CONTENT_ENCODINGS = (None, "identity", "gzip")

_CHARSET = re.compile(r';\s*charset\s*=\s*"?([\w.:-]+)', re.IGNORECASE)


async def rows_of(
    body: AsyncIterator[bytes], *, media_type: str, content_encoding: str | None, limits: Limits
) -> AsyncIterator[list[RawRow]]:
    """The rows of a body as they arrive, some hundreds at a time, in bounded memory; an empty body has none.

    `media_type` may carry a charset, which only CSV heeds: without one it is UTF-8, or Windows-1252 from the first
    byte on that is not. Raises `CatalogueUnreadable` where the body cannot be read on; what is wrong within a row
    is for `decode` to reject.
    """
    splitter = _splitter(media_type, content_encoding, limits)
    async with aclosing(blocks_of(body, gzipped=content_encoding == "gzip", limits=limits)) as blocks:
        block: bytes | None = b""
        while block is not None:
            try:
                block = await anext(blocks, None)
            except Broken as broken:
                row, reason = splitter.taken + 1, broken.reason
                raise CatalogueUnreadable(
                    reason=reason, row=row, offset=broken.offset, detail=broken.detail
                ) from broken
            if rows := splitter.close() if block is None else splitter.feed(block):
                yield rows


def _splitter(media_type: str, content_encoding: str | None, limits: Limits) -> Splitter:
    kind = media_type.partition(";")[0].strip().lower()
    if kind not in MEDIA_TYPES or content_encoding not in CONTENT_ENCODINGS:
        detail = f"{', '.join(MEDIA_TYPES)}, as they are or gzip"
        raise CatalogueUnreadable(reason=Fault.MEDIA_TYPE, row=1, offset=0, detail=detail)
    if kind == NDJSON:
        return LineRows(limits)
    if kind == JSON:
        return ArrayRows(limits)
    charset = _CHARSET.search(media_type)
    return CsvRows(limits, charset=charset[1].lower() if charset else None)
