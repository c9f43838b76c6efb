"""PostgreSQL of the instance: made by initdb, run without root, one role and one database per service."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from pathlib import Path

import asyncpg

from scripts.stack.environment import ADMIN_ROLE, admin_database_url
from scripts.stack.failure import StackError
from scripts.stack.instance import SERVICES, Instance, write_private

VERSION_MINIMUM = 15
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "jit": "off",  # short queries only: compiling costs more than it saves
    "log_min_messages": "warning",
    "timezone": "UTC",
}


def data_directory(instance: Instance) -> Path:
    """Where the cluster lives."""
    return instance.home / "postgres"


def binary(name: str) -> str:
    """A program of the newest PostgreSQL installed; Debian keeps them off the PATH."""
    found = [path for path in Path("/usr/lib/postgresql").glob("[0-9]*") if (path / "bin" / name).exists()]
    newest = max(found, key=lambda path: int(path.name), default=None)
    if newest is None or int(newest.name) < VERSION_MINIMUM:
        raise StackError("postgres", f"PostgreSQL {VERSION_MINIMUM} or newer is not installed; run scripts/setup")
    return str(newest / "bin" / name)


def command(instance: Instance) -> list[str]:
    """The server's command line."""
    options = SETTINGS | {"port": str(instance.ports["postgres"])}
    given = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return [*_without_root(), binary("postgres"), "-D", str(data_directory(instance)), *given]


def _without_root() -> list[str]:
    """PostgreSQL refuses root; the reading capability lets it reach a checkout below a private home folder."""
    if os.geteuid() != 0:
        return []
    user = ("--reuid=postgres", "--regid=postgres", "--clear-groups")
    reading = "dac_read_search"
    return ["setpriv", *user, f"--inh-caps=+{reading}", f"--ambient-caps=+{reading}", f"--bounding-set=-all,+{reading}"]


def create_cluster(instance: Instance) -> None:
    """Make the data directory once; a half-made one is made again."""
    directory = data_directory(instance)
    if (directory / "PG_VERSION").exists() and (instance.home / "postgres.made").exists():
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    if os.geteuid() == 0:
        shutil.chown(directory, "postgres", "postgres")
    password = instance.home / "postgres.password"
    write_private(password, instance.secrets["database_admin"] + "\n")
    try:
        _initdb(instance, directory, password)
    finally:
        password.unlink()
    (instance.home / "postgres.made").touch()


def _initdb(instance: Instance, directory: Path, password: Path) -> None:
    ways = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"]
    given = [f"--username={ADMIN_ROLE}", f"--pwfile={password}", f"--pgdata={directory}", *ways]
    made = subprocess.run(
        [*_without_root(), binary("initdb"), *given], capture_output=True, text=True, check=False, cwd="/"
    )
    (instance.logs / "postgres.log").write_text(made.stdout + made.stderr)
    if made.returncode != 0:
        raise StackError("postgres", "initdb failed", log=instance.logs / "postgres.log")


def provision(instance: Instance) -> None:
    """Give every service its role and its database; leave what is there already."""
    asyncio.run(_provision(instance))


async def _provision(instance: Instance) -> None:
    connection = await asyncpg.connect(admin_database_url(instance))
    try:
        roles = {row[0] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        databases = {row[0] for row in await connection.fetch("SELECT datname FROM pg_database")}
        for service in SERVICES:
            password = _plain(instance.secrets[f"database_{service}"])
            if service not in roles:
                await connection.execute(f"CREATE ROLE {service} LOGIN PASSWORD '{password}'")
            if service not in databases:
                await connection.execute(f"CREATE DATABASE {service} OWNER {service}")
                await connection.execute(f"REVOKE ALL ON DATABASE {service} FROM PUBLIC")
    finally:
        await connection.close()


def _plain(secret: str) -> str:
    """A secret that needs no quoting, as all generated ones are."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", secret):
        raise StackError("postgres", "a database password in secrets.json has characters it may not have")
    return secret
