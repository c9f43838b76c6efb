"""The routes of identity: parse, one call, shape."""

from identity.api import api_keys, contacts, organizations, places, sessions, users, well_known

ROUTERS = (
    well_known.router, sessions.router, users.router, organizations.router, places.router, api_keys.router,
)  # fmt: skip
INTERNAL_ROUTERS = (contacts.router,)
