"""The public routes of deliveries: parse, one call, shape."""

from deliveries.api.routes import router

__all__ = ["router"]
