"""The public routes of webhooks: parse, one call, shape."""

from webhooks.api import endpoints, event_types, jobs, messages

ROUTERS = (event_types.router, endpoints.router, messages.router, jobs.router)
