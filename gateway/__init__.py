"""The one public door: Traefik's configuration, its filling in, and the answers the gateway gives itself."""
