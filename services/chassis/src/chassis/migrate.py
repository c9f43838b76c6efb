"""Brings a database to the schema of this release: the chassis's own revisions first, then the service's."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

_LOCK = 0x766F75616A  # one migration at a time per database


def _script(package: str) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(files(package) / "migrations"))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def head_of(package: str) -> str:
    """The newest revision that a package brings."""
    return _script(package).get_current_head() or ""


def version_table(package: str) -> str:
    """Where a package's revision is kept."""
    return f"alembic_version_{package}"


def _upgrade(connection: Connection, package: str) -> None:
    script = _script(package)

    def steps(revision: Any, _: Any) -> Any:
        return script._upgrade_revs("head", revision)

    config = Config()
    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(connection=connection, version_table=version_table(package))
        with environment.begin_transaction():
            environment.run_migrations()


async def migrate(database_url: str, package: str) -> None:
    """Upgrade to this release's schema; safe to run again and from several processes at once."""
    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            await connection.run_sync(_upgrade, "chassis")
            await connection.run_sync(_upgrade, package)
    finally:
        await engine.dispose()
