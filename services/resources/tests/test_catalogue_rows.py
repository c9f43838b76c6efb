"""A catalogue's body becomes numbered rows: whatever its format and however it is cut, in bounded memory, or a clear no."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from resources.catalogue import CatalogueUnreadable, Fault, Limits, decode, rows_of

from services.resources.tests.catalogues import (
    ARRAY,
    BLOCKS,
    CSV,
    JSON_VALUES,
    NDJSON,
    OBJECTS,
    PLACES,
    a_row,
    cut,
    in_pieces,
    ndjson,
    read,
    values,
)

MIB = 1 << 20
HEADER = "sku;nome;preço;estoque\n"
CELLS = st.text(st.sampled_from('abç;,"\n é1'), max_size=6)


def fault(body: Any, media_type: str, **how: Any) -> CatalogueUnreadable:
    """Why a body cannot be read."""
    with pytest.raises(CatalogueUnreadable) as refusal:
        read(body, media_type, **how)
    return refusal.value


def as_csv(records: list[list[str]], *, delimiter: str, line_end: str) -> str:
    """A spreadsheet of codes and names."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end)
    writer.writerows([["Código", "Descrição", "Preço", "Estoque"], *records])
    return text.getvalue()


# -- what is written is read ---------------------------------------------------------------------------------------------


@given(OBJECTS, PLACES, BLOCKS, st.sampled_from(["\n", "\r\n", "\n\n", "\n \t\r\n"]), st.booleans())
def test_lines_are_read_back(objects: list[Any], places: list[int], block: int, line_end: str, ended: bool) -> None:
    """Every NDJSON line is a row, blank lines are none, and the last one needs no line end."""
    text = line_end.join(json.dumps(each, ensure_ascii=False) for each in objects) + (line_end if ended else "")

    assert values(read(cut(text.encode(), places), NDJSON, block_bytes=block)) == objects


@given(
    st.lists(JSON_VALUES, max_size=8) | OBJECTS,
    PLACES,
    BLOCKS | st.just(1 << 18),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
    st.sampled_from(["", " ", "\r\n\t "]),
)
@example([{"name": "},{" * 9}, {"a": [{"b": 1}, {"c": 2}]}], [], 1 << 18, None, True, "")
@example([{"name": '"}],{' * 3}, {"name": '\\"}]'}], [], 1 << 18, None, False, "")
def test_arrays_are_read_back(
    elements: list[Any], places: list[int], block: int, indent: int | None, wrapped: bool, space: str
) -> None:
    """Every element of an array is a row in one line, in `products` or not, however it is indented."""
    written: Any = {"products": elements} if wrapped else elements
    text = space + json.dumps(written, ensure_ascii=False, indent=indent) + space

    assert values(read(cut(text.encode(), places), ARRAY, block_bytes=block)) == elements


@given(
    st.lists(st.tuples(CELLS, CELLS), max_size=8),
    PLACES,
    BLOCKS | st.just(1 << 18),
    st.sampled_from([";", ","]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "cp1252"]),
)
def test_spreadsheets_are_read_back(
    cells: list[tuple[str, str]], places: list[int], block: int, delimiter: str, line_end: str, charset: str
) -> None:
    """Every record is a row: either delimiter, quotes, lines within quotes, UTF-8 with or without mark, Windows-1252."""
    records = [[f"c{number}", f"x{name}x", price, "7"] for number, (name, price) in enumerate(cells)]
    body = as_csv(records, delimiter=delimiter, line_end=line_end).encode(charset)

    rows = values(read(cut(body, places), CSV, block_bytes=block))

    assert [(row["sku"], row["name"], row["stock"]) for row in rows] == [(code, name, 7) for code, name, *_ in records]


@given(OBJECTS, st.lists(st.integers(0, 1 << 20), max_size=2), PLACES, BLOCKS)
def test_gzip_is_unpacked(objects: list[Any], files: list[int], places: list[int], block: int) -> None:
    """One gzip file or several in a row are what they hold."""
    packed = b"".join(gzip.compress(part) for part in cut(ndjson(objects), files))

    assert values(read(cut(packed, places), NDJSON, content_encoding="gzip", block_bytes=block)) == objects


@pytest.mark.parametrize("body", [b"", b" \n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("media_type", [NDJSON, ARRAY, CSV])
@pytest.mark.parametrize("content_encoding", [None, "gzip"])
def test_an_empty_body_has_no_rows(body: bytes, media_type: str, content_encoding: str | None) -> None:
    """Nothing, white space and a mark alone are no rows, and no error."""
    packed = gzip.compress(body) if content_encoding and body else body

    assert read(packed, media_type, content_encoding=content_encoding) == []


@pytest.mark.parametrize(
    ("body", "media_type"), [(b"[]", ARRAY), (b' { "products" : [ ] } ', ARRAY), (HEADER.encode(), CSV)]
)
def test_an_empty_list_has_no_rows(body: bytes, media_type: str) -> None:
    """A list of nothing is read to its end."""
    assert read(body, media_type) == []


def test_a_malformed_element_stays_a_row() -> None:
    """What is wrong within an element is that row's matter; line ends between tokens go, within a text they stay wrong."""
    body = b'[{"name":\n"a"},{"name":tru},{"name":"b\nc"},7,{"name":"d",},"e"]'

    rows = read(body, ARRAY)

    assert rows[0].data == b'{"name": "a"}'
    assert [(each.row, each.reason) for each in decode(rows[1:]).rejects] == [
        (2, "json-malformed"), (3, "json-malformed"), (4, "not-an-object"), (5, "json-malformed"), (6, "not-an-object"),
    ]  # fmt: skip


# -- what a spreadsheet means --------------------------------------------------------------------------------------------


def test_a_brazilian_spreadsheet() -> None:
    """Semicolons, decimal commas, dates with the day first, words in Portuguese, codes guarded from being numbers."""
    body = (
        "sep=;\r\n"
        "Código;Código de Barras;Descrição;Preço (R$);Estoque;Unidade;Conservação;Validade;Categoria;\r\n"
        'A1;="7891000100103";Leite em pó;"1.234,56";12,00;UN;Refrigerado;31/12/2026;Laticínios;\r\n'
        ";;;;;;;;;\r\n"
        "A2;;Pão;R$ 5;3;Porção;ambiente;2026-01-02;Padaria\r\n"
    ).encode("cp1252")

    assert values(read(body, CSV)) == [
        {"sku": "A1", "gtin": "7891000100103", "name": "Leite em pó", "price": "1234.56", "stock": 12, "unit": "unit",
         "storage": "chilled", "expires_on": "2026-12-31", "category": "dairy"},
        {"sku": "A2", "name": "Pão", "price": "5", "stock": 3, "unit": "portion", "storage": "ambient",
         "expires_on": "2026-01-02", "category": "bakery"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "price"),
    [
        ("19,9", "19.9"), ("19.90", "19.90"), ("1.234,56", "1234.56"), ("1,234.56", "1234.56"), ("R$10", "10"),
        ("1.234.567,8", "1234567.8"), ("1.234", "1.234"), ("1,23,4", "1,23,4"), ("7,89E+12", "7,89E+12"), ("-1", "-1"),
    ],
)  # fmt: skip
def test_prices_of_spreadsheets(written: str, price: str) -> None:
    """Points of thousands go when there are decimals too; `1.234`, which may be either, keeps its three decimals."""
    assert values(read(f'sku;nome;preço;estoque\n1;a;"{written}";1\n'.encode(), CSV))[0]["price"] == price


@pytest.mark.parametrize(
    ("written", "stock"), [("012", 12), ("12,00", 12), ("12.0", 12), ("12,000", "12,000"), ("x", "x")]
)
def test_stocks_of_spreadsheets(written: str, stock: int | str) -> None:
    """A whole number with empty decimals is one; three of them may be thousands, and are left to be rejected."""
    assert values(read(f'sku;nome;preço;estoque\n1;a;1;"{written}"\n'.encode(), CSV))[0]["stock"] == stock


def test_cells_beyond_the_columns() -> None:
    """A record with more cells than columns is rejected, not shortened."""
    rejects = decode(read((HEADER + "1;a;1;1;b\n2;b;1;1;\n").encode(), CSV)).rejects

    assert [(each.row, each.pointer, each.reason) for each in rejects] == [(1, "/column_5", "field-unknown")]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("sku;nome;preço;estoque;ncm", Fault.COLUMN_UNKNOWN), ("sku;nome;estoque", Fault.COLUMN_MISSING),
        ("nome;preço;estoque", Fault.COLUMN_MISSING), ("sku;nome;descrição;preço;estoque", Fault.COLUMN_TWICE),
        ("sku\tnome\tpreço\testoque", Fault.COLUMN_UNKNOWN), (";" * 200, Fault.COLUMN_UNKNOWN),
    ],
)  # fmt: skip
def test_a_header_that_is_not_understood(header: str, reason: Fault) -> None:
    """Unknown, missing and doubled columns are told before any row."""
    broken = fault((header + "\n1;a;1;1\n").encode(), CSV)

    assert (broken.reason, broken.row, broken.offset) == (reason, 1, 0)


@pytest.mark.parametrize("charset", ["iso-8859-1", "WINDOWS-1252", '"cp1252"'])
def test_a_named_charset(charset: str) -> None:
    """The charset that a partner names is believed, also where the bytes would be UTF-8 too."""
    body = (HEADER + "1;Ã£;1;1\n").encode("cp1252")

    assert values(read(body, f"text/csv; charset={charset}"))[0]["name"] == "Ã£"
    assert fault(body, "text/csv; charset=koi8-r").reason is Fault.ENCODING


# -- what cannot be read, and where --------------------------------------------------------------------------------------

GOOD = [a_row(number, name="Pão de açúcar") for number in range(5)]
GOOD_ARRAY = json.dumps(GOOD[:3], ensure_ascii=False).encode()[:-1]
GOOD_CSV = (HEADER + "1;açúcar;1;1\n2;pão;1;1\n3;chá;1;1\n").encode()
LONG = b"x" * 70_000
PLANTED = {
    "cut off in a line": (NDJSON, ndjson(GOOD[:3]), b'{"name":"a', 0, Fault.JSON_TRUNCATED),
    "another encoding": (NDJSON, ndjson(GOOD[:3]), b'{"name":"p\xe3o"}\n', 10, Fault.ENCODING),
    "a long line": (NDJSON, ndjson(GOOD[:3]), LONG + b"\n{}\n", 0, Fault.ROW_TOO_LONG),
    "a long line without end": (NDJSON, ndjson(GOOD[:3]), LONG, 0, Fault.ROW_TOO_LONG),
    "no comma": (ARRAY, GOOD_ARRAY, b' {"a":1}]', 1, Fault.JSON_MALFORMED),
    "no element": (ARRAY, GOOD_ARRAY, b",,{}]", 1, Fault.JSON_MALFORMED),
    "a comma at the end": (ARRAY, GOOD_ARRAY, b",]", 1, Fault.JSON_MALFORMED),
    "brackets": (ARRAY, GOOD_ARRAY, b',{"a":[1}]', 8, Fault.JSON_MALFORMED),
    "after the array": (ARRAY, GOOD_ARRAY, b"] x", 2, Fault.TRAILING_DATA),
    "two arrays": (ARRAY, GOOD_ARRAY, b"][{}]", 1, Fault.TRAILING_DATA),
    "no closing brace": (ARRAY, b'{"products":' + GOOD_ARRAY, b'],"more":1}', 1, Fault.TRAILING_DATA),
    "an encoding in an array": (ARRAY, GOOD_ARRAY, b',{"name":"p\xe3o"},{}]', 11, Fault.ENCODING),
    "a long element": (ARRAY, GOOD_ARRAY, b',"' + LONG + b'",{}]', 1, Fault.ROW_TOO_LONG),
    "a long object": (ARRAY, GOOD_ARRAY, b',{"a":"' + LONG + b'"},{}]', 1, Fault.ROW_TOO_LONG),
    "an open quote": (CSV, GOOD_CSV, b'4;"a;1;1\n5;b;1;1\n', 0, Fault.QUOTE_UNCLOSED),
    "a carriage return": (CSV, GOOD_CSV, b"4;a\rb;1;1\n", 0, Fault.CSV_MALFORMED),
    "mixed encodings": (CSV, GOOD_CSV, b"4;p\xe3o;1;1\n", 3, Fault.ENCODING),
    "a long record": (CSV, GOOD_CSV, b"4;" + LONG + b";1;1\n", 0, Fault.ROW_TOO_LONG),
    "a very long cell": (CSV, GOOD_CSV, b"4;" + LONG * 3 + b";1;1\n", 0, Fault.ROW_TOO_LONG),
    "a long record without end": (CSV, GOOD_CSV, b'4;"' + LONG, 0, Fault.ROW_TOO_LONG),
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("block", [1 << 18, 1 << 12, 16, 7])
@given(places=PLACES)
def test_a_fault_is_found_where_it_is(name: str, block: int, places: list[int]) -> None:
    """However a body is cut, its fault is told with the fourth row, after three good ones, and with its byte."""
    media_type, before, planted, further, reason = PLANTED[name]
    block = max(block, 1 << 12) if len(planted) > 1_000 else block  # tiny blocks are for tiny bodies

    broken = fault(cut(before + planted, places), media_type, block_bytes=block)

    assert (broken.reason, broken.row, broken.offset) == (reason, 4, len(before) + further)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("block", [1 << 18, 5])
def test_an_array_cut_off_anywhere(wrapped: bool, block: int) -> None:
    """Without its last bracket no array is taken for whole, wherever it ends."""
    whole = json.dumps({"products": GOOD} if wrapped else GOOD).encode()

    for length in range(1, len(whole)):
        broken = fault(whole[:length], ARRAY, block_bytes=block)
        assert (broken.reason, broken.offset) == (Fault.JSON_TRUNCATED, length)


@pytest.mark.parametrize("body", [b"1", b"null", b'"a"', b'{"sku":"a"}', b'{"total":1,"products":[]}', b"{}", b"x[]"])
def test_json_that_is_no_list(body: bytes) -> None:
    """A value, another object and anything beside the products are told apart from a list."""
    assert fault(body, ARRAY).reason is Fault.NOT_PRODUCTS


@pytest.mark.parametrize("media_type", [NDJSON, ARRAY, CSV])
@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings(media_type: str, charset: str) -> None:
    """UTF-16 and UTF-32 are named at the first byte."""
    broken = fault((HEADER if media_type == CSV else "[{}]").encode(charset), media_type)

    assert (broken.reason, broken.row, broken.offset) == (Fault.ENCODING, 1, 0)


@pytest.mark.parametrize("media_type", [NDJSON, ARRAY, CSV])
def test_gzip_that_is_not_called_so(media_type: str) -> None:
    """A packed body without its header is no text."""
    assert fault(gzip.compress(ndjson(GOOD)), media_type).reason is Fault.ENCODING


@pytest.mark.parametrize(
    ("media_type", "content_encoding"), [("text/plain", None), ("application/xml", None), (NDJSON, "br"), ("", None)]
)
def test_formats_that_are_not_read(media_type: str, content_encoding: str | None) -> None:
    """Other formats and packings are refused by name."""
    assert fault(b"", media_type, content_encoding=content_encoding).reason is Fault.MEDIA_TYPE


# -- gzip ----------------------------------------------------------------------------------------------------------------


@given(st.data(), BLOCKS)
def test_gzip_cut_off_anywhere(data: st.DataObject, block: int) -> None:
    """A gzip stream without its end is cut off, after the rows that came."""
    packed = gzip.compress(ndjson(GOOD))
    length = data.draw(st.integers(1, len(packed) - 1))

    broken = fault(packed[:length], NDJSON, content_encoding="gzip", block_bytes=block)

    assert broken.reason is Fault.GZIP_TRUNCATED
    unpacked = zlib.decompressobj(wbits=31).decompress(packed[:length])
    assert (broken.row, broken.offset) == (unpacked.count(b"\n") + 1, len(unpacked))


@given(st.data(), st.integers(1, 255), PLACES)
def test_damaged_gzip_is_never_taken_for_whole(data: st.DataObject, change: int, places: list[int]) -> None:
    """One byte changed behind the header and the body is not read to its end."""
    packed = bytearray(gzip.compress(ndjson(GOOD)))
    packed[data.draw(st.integers(10, len(packed) - 1))] ^= change

    assert fault(cut(bytes(packed), places), NDJSON, content_encoding="gzip").reason in set(Fault)


def test_something_after_gzip() -> None:
    """What follows a gzip stream and is none is told apart from damage."""
    broken = fault(gzip.compress(ndjson(GOOD)) + b"trailing", NDJSON, content_encoding="gzip")

    assert (broken.reason, broken.row) == (Fault.TRAILING_DATA, 6)
    assert fault(b"plain text", NDJSON, content_encoding="gzip").reason is Fault.GZIP_MALFORMED


def test_many_empty_gzip_files() -> None:
    """Concatenated files are counted: empty ones would cost time for nothing."""
    assert fault(gzip.compress(b"") * 100_001, NDJSON, content_encoding="gzip").reason is Fault.GZIP_MALFORMED


# -- bounds --------------------------------------------------------------------------------------------------------------


class Endless:
    """A body of as many pieces as anybody takes."""

    def __init__(self, start: bytes, piece: bytes, *, pieces: int) -> None:
        self.taken = 0
        self._start, self._piece, self._pieces = start, piece, pieces

    def __iter__(self) -> Iterator[bytes]:
        yield self._start
        while self.taken < self._pieces:
            self.taken += 1
            yield self._piece


def peak_of(body: Any, media_type: str, **how: Any) -> tuple[Any, int]:
    """What reading a body comes to, and the most memory it took."""
    tracemalloc.start()
    try:
        return fault(body, media_type, **how), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("media_type", "start", "piece"),
    [
        (NDJSON, b"", b"x"), (ARRAY, b"", b"["), (ARRAY, b'["', b"x"), (ARRAY, b'[{"a":[1,', b"{},"), (ARRAY, b"[", b"1"),
        (CSV, b"", b"a"), (CSV, HEADER.encode() + b'"', b"x\n"), (CSV, HEADER.encode(), b";"),
    ],
)  # fmt: skip
def test_an_endless_row_is_not_kept(media_type: str, start: bytes, piece: bytes) -> None:
    """A row without end, here a hundred megabytes, is refused after a block, and what was read of it is little."""
    body = Endless(start, piece * (1 << 16), pieces=100 * MIB // (1 << 16))

    broken, peak = peak_of(body, media_type)

    assert (broken.reason, broken.row) == (Fault.ROW_TOO_LONG, 1)
    assert body.taken <= 8
    assert peak < 8 * MIB


@pytest.mark.parametrize("packed_bytes", [1, 1 << 10, 1 << 20])
def test_a_bomb_is_not_unpacked(packed_bytes: int) -> None:
    """A thousandfold body is refused as soon as it is known to be one, in little memory, in pieces of any size."""
    packed = gzip.compress(b"\n" * (64 * MIB))
    places = range(packed_bytes, len(packed), packed_bytes) if packed_bytes > 1 else range(2_000)

    broken, peak = peak_of(cut(packed, places), NDJSON, content_encoding="gzip")

    assert broken.reason is Fault.COMPRESSION_RATIO
    assert broken.offset <= 17 * MIB
    assert peak < 4 * MIB


@pytest.mark.parametrize("content_encoding", [None, "gzip"])
def test_a_body_has_a_size(content_encoding: str | None) -> None:
    """A body is refused at the first byte too many, packed or not; with one less it is read."""
    text = ndjson(GOOD)
    body = gzip.compress(text) if content_encoding else text

    broken = fault(body, NDJSON, content_encoding=content_encoding, body_bytes_max=len(text) - 1)

    assert (broken.reason, broken.offset) == (Fault.BODY_TOO_LARGE, len(text) - 1)
    assert len(read(body, NDJSON, content_encoding=content_encoding, body_bytes_max=len(text))) == len(GOOD)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [(b"1\n" * 9, NDJSON), (b"[" + b"1," * 8 + b"1]", ARRAY), (HEADER.encode() + b"1\n" * 9, CSV)],
)
@pytest.mark.parametrize("block", [4, 1 << 18])
def test_rows_have_a_number(body: bytes, media_type: str, block: int) -> None:
    """A catalogue with one product too many is refused at that product; with none too many it is read."""
    broken = fault(body, media_type, rows_max=8, block_bytes=block)

    assert (broken.reason, broken.row) == (Fault.TOO_MANY_ROWS, 9)
    assert len(read(body, media_type, rows_max=9, block_bytes=block)) == 9


def test_malformed_rows_are_not_endless_work() -> None:
    """Some malformed products in an array cost no more than some dozen times the time of good ones."""
    rows = [json.dumps(a_row(number)).encode() for number in range(20_000)]
    mixed = [row if number % 1_000 else row.replace(b":", b"") for number, row in enumerate(rows)]
    seconds = []
    for elements in (rows, mixed):
        began = perf_counter()
        assert len(read(b"[" + b",".join(elements) + b"]", ARRAY)) == len(rows)
        seconds.append(perf_counter() - began)

    assert seconds[1] < 60 * seconds[0]  # it is 7 times, and 240 when the fast way is tried again after each


@pytest.mark.parametrize("media_type", [NDJSON, ARRAY, CSV])
def test_memory_does_not_grow_with_the_body(media_type: str) -> None:
    """Three times the body takes no more memory."""
    rows = [a_row(number) for number in range(4_000)]
    start, piece, end = {
        NDJSON: (b"", ndjson(rows), b""),
        ARRAY: (b"[", json.dumps(rows).encode()[1:-1] + b",", b"{}]"),
        CSV: (HEADER.encode(), b"".join(b"%d;%s;1;1\n" % (number, b"arroz" * 10) for number in range(4_000)), b""),
    }[media_type]

    counted, peaks = zip(*(counted_in([start, *[piece] * times, end], media_type) for times in (4, 12)), strict=True)

    assert counted[1] > 2 * counted[0] >= 32_000
    assert peaks[1] < peaks[0] + MIB // 2


def counted_in(pieces: list[bytes], media_type: str) -> tuple[int, int]:
    """How many rows, none of them kept, and the most memory they took."""

    async def counted() -> int:
        rows = rows_of(in_pieces(pieces), media_type=media_type, content_encoding=None, limits=Limits())
        return sum([len(batch) async for batch in rows])

    tracemalloc.start()
    try:
        return asyncio.run(counted()), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
