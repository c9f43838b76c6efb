"""Redis of the instance: quotas and caches only, so nothing is kept on disk and the oldest entries may go."""

from __future__ import annotations

from scripts.stack.instance import Instance, write_private

CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
save ""
appendonly no
maxmemory 64mb
maxmemory-policy allkeys-lru
set-proc-title no
# Fewer wake-ups at rest; expiry on access is not affected.
hz 2
"""


def prepare(instance: Instance) -> None:
    """Write the server's configuration."""
    folder = instance.home / "redis"
    folder.mkdir(exist_ok=True)
    configuration = CONFIGURATION.format(
        port=instance.ports["redis"], password=instance.secrets["redis"], folder=f'"{folder}"'
    )
    write_private(folder / "redis.conf", configuration)


def command(instance: Instance) -> list[str]:
    """The server's command line; the password stays in the file."""
    return ["redis-server", str(instance.home / "redis" / "redis.conf")]
