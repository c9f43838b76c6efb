"""Distances on a sphere: the box around a point that an index can use before the haversine formula is asked."""

from __future__ import annotations

import math

EARTH_RADIUS_M = 6_371_008.8  # IUGG mean radius


def bounding_box(lat: float, lon: float, radius_m: int) -> tuple[float, float, float, float]:
    """(lat_min, lat_max, lon_min, lon_max) around a point; whole longitudes near the poles."""
    d_lat = math.degrees(radius_m / EARTH_RADIUS_M)
    narrowing = math.cos(math.radians(min(89.9, abs(lat) + d_lat)))
    d_lon = min(180.0, d_lat / narrowing)
    return lat - d_lat, lat + d_lat, lon - d_lon, lon + d_lon
