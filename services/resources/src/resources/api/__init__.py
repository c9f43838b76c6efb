"""The public routes of resources."""

from resources.api import intake, loads, matches, requests, reservations

ROUTERS = [requests.router, reservations.router, matches.router, intake.router, loads.router]
STREAMED = intake.PATHS
