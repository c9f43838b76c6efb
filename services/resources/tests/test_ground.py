"""The grid by which an index finds what is near: it never misses, and it is never large."""

from __future__ import annotations

import math

import pytest
from chassis.database import Database
from hypothesis import assume, given
from hypothesis import strategies as st
from resources.domain import RADIUS_M, cell_of, cells_around, distance_m
from resources.domain.ground import EARTH_RADIUS_M
from resources.migrations.versions import __path__ as versions_path

LATITUDES = st.floats(-90, 90)
LONGITUDES = st.floats(-180, 180)


@given(LATITUDES, LONGITUDES, st.floats(0, 1), st.floats(0, 2 * math.pi))
def test_nothing_within_the_radius_is_missed(lat: float, lon: float, share: float, direction: float) -> None:
    """The cell of any point within the radius is among the cells around."""
    reach = math.degrees(share * RADIUS_M / EARTH_RADIUS_M)
    other_lat = max(-90.0, min(90.0, lat + reach * math.cos(direction)))
    east = reach * math.sin(direction) / max(1e-6, math.cos(math.radians(other_lat)))
    other_lon = (lon + east + 180) % 360 - 180
    assume(distance_m(lat, lon, other_lat, other_lon) <= RADIUS_M)

    assert cell_of(other_lat, other_lon) in cells_around(lat, lon, RADIUS_M)


@given(LATITUDES, LONGITUDES)
def test_the_cells_around_are_few_and_each_is_named_once(lat: float, lon: float) -> None:
    """At any latitude a query looks into a bounded number of cells, near a pole into the most."""
    cells = cells_around(lat, lon, RADIUS_M)

    assert len(cells) == len(set(cells)) <= (90 if abs(lat) < 80 else 200)


def test_cells_are_of_one_size_where_people_live() -> None:
    """Five kilometres from north to south and from east to west, from the equator to the south of Brazil."""
    for lat in (0.02, -15.02, -30.02):
        step = 0.045 / math.cos(math.radians(lat))
        assert cell_of(lat, -51) != cell_of(lat + 0.045, -51)
        assert len({cell_of(lat, -51 + n * step) for n in range(20)}) in (20, 21)


def test_distances_are_along_the_ground() -> None:
    """Porto Alegre to Canoas is some thirteen kilometres, a degree on the equator 111."""
    assert distance_m(-30.0331, -51.23, -29.9178, -51.1836) == pytest.approx(13_590, abs=50)
    assert distance_m(0, 0, 0, 1) == pytest.approx(111_195, abs=1)


async def test_what_was_there_before_is_put_into_the_same_cells(database: Database) -> None:
    """The migration's formula and the domain's agree, away from the borders of cells."""
    namespace: dict[str, object] = {"__name__": "migration"}
    with open(f"{next(iter(versions_path))}/0002_matching.py", encoding="utf-8") as file:  # noqa: ASYNC230
        exec(compile(file.read(), "0002_matching.py", "exec"), namespace)
    points = [(lat + 0.017, lon + 0.013) for lat in range(-89, 89, 7) for lon in range(-179, 179, 11)]

    rows = await database.reading().fetch(
        f"SELECT {namespace['_CELL']} AS cell FROM unnest($1::float8[], $2::float8[]) WITH ORDINALITY AS p(lat, lon, n)"
        " ORDER BY n",
        [lat for lat, _ in points],
        [lon for _, lon in points],
    )

    assert [row["cell"] for row in rows] == [cell_of(lat, lon) for lat, lon in points]
