"""The public routes of deliveries: parse, one call, shape."""

from deliveries.api import offers, routes, tasks

ROUTERS = [routes.router, offers.router, tasks.router]

__all__ = ["ROUTERS"]
