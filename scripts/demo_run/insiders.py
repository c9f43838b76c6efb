"""Asks the services' own code, in a process of its own, in JSON: what each consumer binds, and whether folding fits.

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
from typing import Any, Self
from uuid import UUID

from scripts.demo_run.stack import REPOSITORY, SERVICES

AT_ONCE = 6
SECONDS_MAX = 120
_STREAMS = "SELECT DISTINCT stream_id AS id FROM events"
ANSWER_BYTES_MAX = 16_777_216  # one line; ids of rows that differ, at worst all of them


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


class Insiders:
    """That other process: started early, asked when its answers are wanted."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, settings: Mapping[str, str]) -> Self:
        """Let it import the services while the caller goes on."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "scripts.demo_run.insiders",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, limit=ANSWER_BYTES_MAX,
        )  # fmt: skip
        insiders = cls(process)
        insiders._tell(dict(settings))
        return insiders

    async def bindings(self) -> dict[str, list[str]]:
        """Consumer (`service.name`) and the event types it binds."""
        self._tell("bindings")
        found: dict[str, list[str]] = await self._heard()
        return found

    async def folds(self) -> dict[str, Any]:
        """`tables` (`service.name`): how many rows, and which of them are not what their events fold to; `streams` of each
        service: how many, and which of them have no row in any table.
        """
        self._tell("folds")
        found: dict[str, Any] = await self._heard()
        return found

    async def past(self, batches: Mapping[str, int]) -> dict[str, Any]:
        """Of each batch, what the so-and-so-many first of its events fold to."""
        self._tell({"past": dict(batches)})
        found: dict[str, Any] = await self._heard()
        return found

    async def stop(self) -> None:
        """End it, whatever it does."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def _tell(self, what: object) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the process was started without its standard input")
        self._process.stdin.write(json.dumps(what).encode() + b"\n")

    async def _heard(self) -> Any:
        if self._process.stdout is None or self._process.stderr is None:
            raise RuntimeError("the process was started without its output")
        async with asyncio.timeout(SECONDS_MAX):
            line = await self._process.stdout.readline()
        if not line:
            problem = (await self._process.stderr.read()).decode()[-2000:]
            raise RuntimeError(f"the services' own code could not be asked:\n{problem}")
        return json.loads(line)


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


def _equal(kept: Any, folded: Any) -> bool:
    """A column against what is written to it; PostgreSQL gives lists where a tuple was written."""
    return bool(kept == (list(folded) if isinstance(folded, tuple) else folded))


async def _folds(service: str, runtime: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is wrong with each table, and the streams that are in none."""
    await runtime.database.open()
    try:
        tables: dict[str, Any] = {}
        ids: set[Any] = set()
        for repository in _repositories(service):
            tables[f"{service}.{repository.table}"] = await _folded(runtime.database, repository, ids)
        streams = {row["id"] for row in await runtime.database.reading().fetch(_STREAMS)}
        return tables, {"count": len(streams), "without": sorted(str(one) for one in streams - ids)}
    finally:
        await runtime.database.close()


async def _folded(database: Any, repository: Any, seen: set[Any]) -> dict[str, Any]:
    """Every row against the fold of its events; adds their ids to those seen."""
    ids = [row["id"] for row in await database.reading().fetch(f"SELECT id FROM {repository.table}")]
    seen.update(ids)
    slots = asyncio.Semaphore(AT_ONCE)

    async def differs(aggregate_id: Any) -> str | None:
        async with slots:
            tx = database.reading()
            state, fold = await repository.get(tx, aggregate_id), await repository.as_of(tx, aggregate_id)
            row = await tx.fetchrow(f"SELECT * FROM {repository.table} WHERE id = $1", aggregate_id)
            columns = {
                name: row[name] for name, value in repository._columns(fold).items() if not _equal(row[name], value)
            }
            return None if state == fold and not columns else f"{aggregate_id} {columns or 'state'}"

    different = [one for one in await asyncio.gather(*(differs(one) for one in ids)) if one]
    return {"rows": len(ids), "different": different}


async def _past(runtime: Any, batches: Mapping[str, int]) -> dict[str, Any]:
    """Batches as they were after so many events."""
    import msgspec
    from batches.repository import BATCHES

    await runtime.database.open()
    try:
        tx, found = runtime.database.reading(), {}
        for batch, count in batches.items():
            rows = await BATCHES._stream(tx, UUID(batch))
            events = [BATCHES._event(row) for row in rows[:count]]
            found[batch] = msgspec.to_builtins(BATCHES.aggregate.fold(UUID(batch), events))
        return found
    finally:
        await runtime.database.close()


def _all_folds(runtimes: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"tables": {}, "streams": {}}
    for service, runtime in runtimes.items():
        tables, found["streams"][service] = asyncio.run(_folds(service, runtime))
        found["tables"] |= tables
    return found


def _found(asked: Any, runtimes: Mapping[str, Any]) -> dict[str, Any]:
    if asked == "folds":
        return _all_folds(runtimes)
    if asked == "bindings":
        return {name: types for one, runtime in runtimes.items() for name, types in _bindings(one, runtime).items()}
    return asyncio.run(_past(runtimes["batches"], asked["past"]))


def _answer(settings: Mapping[str, str]) -> None:
    """Build every service, then answer line by line until nobody asks any more."""
    runtimes = {}
    for service in SERVICES:
        os.environ.update(_environment(settings, service))
        runtimes[service] = _service(service)
    for line in sys.stdin:
        print(json.dumps(_found(json.loads(line), runtimes)), flush=True)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    _answer(json.loads(sys.stdin.readline()))
