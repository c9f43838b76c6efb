"""The public routes of resources."""

from resources.api import requests, reservations

ROUTERS = [requests.router, reservations.router]
