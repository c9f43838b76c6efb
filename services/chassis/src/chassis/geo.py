"""Distances on a sphere, in SQL: a bounding box that an index can use, then the haversine formula."""

from __future__ import annotations

import math

EARTH_RADIUS_M = 6_371_008.8  # IUGG mean radius


def bounding_box(lat: float, lon: float, radius_m: int) -> tuple[float, float, float, float]:
    """(lat_min, lat_max, lon_min, lon_max) around a point; whole longitudes near the poles."""
    d_lat = math.degrees(radius_m / EARTH_RADIUS_M)
    narrowing = math.cos(math.radians(min(89.9, abs(lat) + d_lat)))
    d_lon = min(180.0, d_lat / narrowing)
    return lat - d_lat, lat + d_lat, lon - d_lon, lon + d_lon


def distance_sql(lat: str, lon: str, lat_column: str, lon_column: str) -> str:
    """SQL for the metres between two placeholders or columns and two columns (haversine)."""
    return (
        f"2 * {EARTH_RADIUS_M} * asin(least(1, sqrt(power(sin(radians({lat_column} - {lat}) / 2), 2)"
        f" + cos(radians({lat})) * cos(radians({lat_column})) * power(sin(radians({lon_column} - {lon}) / 2), 2))))"
    )
