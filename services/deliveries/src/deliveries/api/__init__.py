"""The public routes of deliveries: parse, one call, shape."""

from deliveries.api import calendar, routes, sync

ROUTERS = (routes.router, calendar.router, sync.router)

__all__ = ["ROUTERS"]
