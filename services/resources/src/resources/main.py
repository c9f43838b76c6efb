"""The composition root: everything of resources wired by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from chassis.app import Runtime, Service
from chassis.kernel import ConcurrentUpdate

from resources import api, consumers
from resources.dispatcher import Loads
from resources.objects import ObjectStore
from resources.repository import LOADS, MATCHES, REQUESTS
from resources.retention import Retention
from resources.settings import Settings
from resources.usecases import LoadPolicy, Policy


@dataclass
class Resources(Service):
    """The service with the object store that its routes and workers share."""

    objects: ObjectStore = field(kw_only=True)


def _objects(settings: Settings) -> ObjectStore:
    secret = settings.object_store_secret
    options: dict[str, Any] = {
        "endpoint": settings.object_store_endpoint,
        "region": settings.object_store_region,
        "access_key_id": settings.object_store_key_id,
        "secret_access_key": None if secret is None else secret.get_secret_value(),
    }
    given = {name: value for name, value in options.items() if value is not None}
    return ObjectStore(settings.object_store_url, options=given)


def build() -> Service:
    """The service, from its environment."""
    settings = Settings()
    objects = _objects(settings)

    async def loads(runtime: Runtime) -> None:
        await Loads(runtime.database, objects, LoadPolicy.of(settings)).run()

    async def retention(runtime: Runtime) -> None:
        await Retention(runtime.database, objects, LoadPolicy.of(settings)).run()

    return Resources(
        name="resources",
        settings=settings,
        routers=api.ROUTERS,
        consumers=consumers.CONSUMERS,
        streams={"resource_request": REQUESTS, "match": MATCHES, "catalogue_load": LOADS},
        background={"catalogue-loads": loads, "retention": retention},
        unlimited_paths=api.STREAMED,
        objects=objects,
        timers=consumers.timers(Policy.of(settings)),
        # A proposal was made or answered meanwhile, or another load began: the command runs again and finds it as it is.
        constraints={
            "request_lines_proposed": ConcurrentUpdate,
            "matches_line": ConcurrentUpdate,
            "catalogue_loads_applying": ConcurrentUpdate,
        },
    )
