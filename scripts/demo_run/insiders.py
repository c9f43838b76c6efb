"""Asks the services' own code, in a process of its own, and prints JSON: what each consumer binds, and whether folding fits.

This is the only module here that imports services; it runs as `python -m scripts.demo_run.insiders`.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import logging
import os
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from scripts.demo_run.stack import REPOSITORY, SERVICES

AT_ONCE = 6
SECONDS_MAX = 120


def _environment(settings: Mapping[str, str], service: str) -> dict[str, str]:
    """What the service would be told, as far as building it needs."""
    prefix = f"VAJ_{service.upper()}"
    return {
        "VAJ_SERVICE": service,
        "VAJ_DATABASE_URL": settings[f"{prefix}_DATABASE_URL"],
        "VAJ_SECRET_KEY": settings[f"{prefix}_SECRET_KEY"],
        "VAJ_BROKER_URL": settings["VAJ_BROKER_URL"],
        "VAJ_REDIS_URL": settings["VAJ_REDIS_URL"],
        "VAJ_INTERNAL_TOKEN": settings["VAJ_INTERNAL_TOKEN"],
        "VAJ_SMTP_URL": settings["VAJ_SMTP_URL"],
        "VAJ_IDENTITY_INTERNAL_URL": settings["VAJ_IDENTITY_INTERNAL_URL"],
        "VAJ_PUBLIC_URL": settings["VAJ_PUBLIC_URL"],
        "VAJ_OBJECT_STORE_URL": (Path(settings["VAJ_HOME"]) / "objects").as_uri(),
        "VAJ_API_PORT": "1",
        "VAJ_OPS_PORT": "2",
    }


async def ask(settings: Mapping[str, str], *, folds: bool) -> dict[str, Any]:
    """The answer of that other process: `bindings`, and `folds` where asked for."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scripts.demo_run.insiders", *(["folds"] if folds else []),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    given = json.dumps(dict(settings)).encode()
    async with asyncio.timeout(SECONDS_MAX):
        output, errors = await process.communicate(given)
    if process.returncode != 0:
        raise RuntimeError(f"the services' own code could not be asked:\n{errors.decode()[-2000:]}")
    answer: dict[str, Any] = json.loads(output)
    return answer


def _modules(service: str) -> Iterator[ModuleType]:
    root = importlib.import_module(f"{service}.repository")
    yield root
    for found in pkgutil.iter_modules(getattr(root, "__path__", [])):
        yield importlib.import_module(f"{root.__name__}.{found.name}")


def _service(service: str) -> Any:
    """The service as its composition root builds it."""
    from chassis.app import Runtime

    return Runtime(importlib.import_module(f"{service}.main").build())


def _bindings(service: str, runtime: Any) -> dict[str, list[str]]:
    return {
        f"{service}.{consumer.name}": sorted(event.type_name() for event in consumer.handlers)
        for consumer in runtime.consumers
    }


def _repositories(service: str) -> list[Any]:
    """Every repository of aggregates that the service has; a service of read models has none."""
    from chassis.repository import Repository

    if importlib.util.find_spec(f"{service}.repository") is None:
        return []
    found = {
        id(one): one for module in _modules(service) for one in vars(module).values() if isinstance(one, Repository)
    }
    return list(found.values())


async def _folds(service: str, runtime: Any) -> dict[str, Any]:
    await runtime.database.open()
    try:
        return {f"{service}.{one._table}": await _folded(runtime.database, one) for one in _repositories(service)}
    finally:
        await runtime.database.close()


async def _folded(database: Any, repository: Any) -> dict[str, Any]:
    """Every row against the fold of its events."""
    ids = [row["id"] for row in await database.reading().fetch(f"SELECT id FROM {repository._table}")]
    slots = asyncio.Semaphore(AT_ONCE)

    async def differs(aggregate_id: Any) -> str | None:
        async with slots:
            tx = database.reading()
            row, fold = await repository.get(tx, aggregate_id), await repository.as_of(tx, aggregate_id)
            return None if row == fold else str(aggregate_id)

    different = [one for one in await asyncio.gather(*(differs(one) for one in ids)) if one]
    return {"rows": len(ids), "different": different}


async def _answer(settings: Mapping[str, str], *, folds: bool) -> dict[str, Any]:
    bindings: dict[str, list[str]] = {}
    found: dict[str, Any] = {}
    for service in SERVICES:
        os.environ.update(_environment(settings, service))
        runtime = _service(service)
        bindings |= _bindings(service, runtime)
        found |= await _folds(service, runtime) if folds else {}
    return {"bindings": bindings, "folds": found}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    told = asyncio.run(_answer(json.load(sys.stdin), folds="folds" in sys.argv[1:]))
    json.dump(told, sys.stdout)
