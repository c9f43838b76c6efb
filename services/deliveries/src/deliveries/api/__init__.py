"""The public routes of deliveries: parse, one call, shape."""

from deliveries.api import calendar, offers, routes, sync, tasks

ROUTERS = (routes.router, offers.router, tasks.router, calendar.router, sync.router)

__all__ = ["ROUTERS"]
