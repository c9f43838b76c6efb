"""The public routes of resources."""

from resources.api import matches, requests, reservations

ROUTERS = [requests.router, reservations.router, matches.router]
