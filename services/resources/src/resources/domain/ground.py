"""Ground: how far places lie apart, and the grid of cells by which an index finds those that are near."""

from __future__ import annotations

import math

EARTH_RADIUS_M = 6_371_008.8  # IUGG mean radius
CELL_DEGREES = 0.045  # of latitude: 5 km; columns are as wide over ground, so every band has its own number of them
_COLUMNS = 1 << 16  # more than the equator has


def distance_m(lat: float, lon: float, to_lat: float, to_lon: float) -> float:
    """Along the great circle (haversine)."""
    half = math.sin(math.radians(to_lat - lat) / 2) ** 2
    half += math.cos(math.radians(lat)) * math.cos(math.radians(to_lat)) * math.sin(math.radians(to_lon - lon) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half)))


def cell_of(lat: float, lon: float) -> int:
    """The cell that a point is in."""
    band = _band(lat)
    return band * _COLUMNS + _column(lon, columns_of(band))


def cells_around(lat: float, lon: float, radius_m: int) -> list[int]:
    """Every cell that may hold a point within the radius, each once; bounded by radius and cell, not by the latitude."""
    reach = math.degrees(radius_m / EARTH_RADIUS_M)
    sine = math.sin(math.radians(reach)) / max(1e-9, math.cos(math.radians(lat)))
    east = math.degrees(math.asin(sine)) if sine < 1 else 180.0  # a pole is within the radius
    cells: dict[int, None] = {}
    for band in range(_band(max(-90.0, lat - reach)), _band(min(90.0, lat + reach)) + 1):
        columns = columns_of(band)
        width = 360 / columns
        first = math.floor((lon - east + 180) / width)
        last = min(math.floor((lon + east + 180) / width), first + columns - 1)
        cells |= dict.fromkeys(band * _COLUMNS + column % columns for column in range(first, last + 1))
    return list(cells)


def columns_of(band: int) -> int:
    """Into how many cells a band of latitude is cut."""
    middle = (band + 0.5) * CELL_DEGREES - 90
    return max(1, math.floor(360 * math.cos(math.radians(middle)) / CELL_DEGREES))


def _band(lat: float) -> int:
    return math.floor((lat + 90) / CELL_DEGREES)


def _column(lon: float, columns: int) -> int:
    return math.floor((lon + 180) / 360 * columns) % columns
