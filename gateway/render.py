"""Fill the gateway's configuration in: addresses, limits and folders into the templates of this directory."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

TEMPLATES = Path(__file__).resolve().parent
# Coarse limits per address, above what one partner may do by its quotas; they stop floods, not customers.
RATE_PER_S = 2000
RATE_BURST = 4000
BODY_BYTES_MAX = 1_048_576
PASSIVE_CHECK = {"maxFailedAttempts": 3, "failureWindow": "2s"}


@dataclass(frozen=True)
class Replicas:
    """Where a service runs: the address of each replica, and the port on which all of them say that they live."""

    urls: Sequence[str]
    ops_port: int

    def values(self, service: str) -> dict[str, object]:
        """What the templates want to know of the service."""
        passive = PASSIVE_CHECK if len(self.urls) > 1 else None
        return {
            f"{service}_servers": json.dumps([{"url": url} for url in self.urls]),
            f"{service}_passive": json.dumps(passive),
            f"{service}_ops_port": self.ops_port,
        }


def render(
    target: Path,
    *,
    public_address: str,
    internal_address: str,
    problems_url: str,
    services: Mapping[str, Replicas],
    access_log: Path,
    trusted_proxies: str = "",
    rate_per_s: int = RATE_PER_S,
    rate_burst: int = RATE_BURST,
    body_bytes_max: int = BODY_BYTES_MAX,
) -> Path:
    """Write `traefik.yaml` and `dynamic/` below the target, each file in one step; returns the static file.

    `trusted_proxies` are comma-separated networks whose X-Forwarded-* headers count.
    """
    values: dict[str, object] = {
        "public_address": public_address,
        "internal_address": internal_address,
        "problems_url": problems_url,
        "access_log": access_log,
        "dynamic_directory": target / "dynamic",
        "trusted_proxies": json.dumps(_networks(trusted_proxies)),
        "rate_per_s": rate_per_s,
        "rate_burst": rate_burst,
        "body_bytes_max": body_bytes_max,
        **{name: value for service, replicas in services.items() for name, value in replicas.values(service).items()},
    }
    (target / "dynamic").mkdir(parents=True, exist_ok=True)
    for template in [TEMPLATES / "traefik.yaml", *sorted((TEMPLATES / "dynamic").glob("*.yaml"))]:
        _replace(target / template.relative_to(TEMPLATES), Template(template.read_text()).substitute(values), target)
    return target / "traefik.yaml"


def _networks(given: str) -> list[str]:
    return [str(ipaddress.ip_network(one.strip())) for one in given.split(",") if one.strip()]


def _replace(file: Path, text: str, drafts: Path) -> None:
    """Drafts stay outside the watched folder: Traefik would read a half-written one."""
    draft = drafts / f".{file.name}.draft"
    draft.write_text(text)
    draft.replace(file)
