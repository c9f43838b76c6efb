"""RabbitMQ of the instance: a node of its own with its own folders, ports, port mapper, user and virtual host."""

from __future__ import annotations

import os
import subprocess

from scripts.stack.environment import VIRTUAL_HOST
from scripts.stack.instance import Instance, write_private

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # not the wrapper in /usr/sbin, which changes the user
CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"
# Schedulers that sleep instead of spinning: an idle node then takes well below 1 % of a core.
ERLANG_FLAGS = "+sbwt none +sbwtdcpu none +sbwtdio none +S 2:2 -kernel inet_dist_use_interface {127,0,0,1}"
CONFIGURATION = """\
listeners.tcp.local = 127.0.0.1:{port}
default_vhost = {vhost}
default_user = vouajudar
default_pass = {password}
vm_memory_high_watermark.absolute = 512MiB
disk_free_limit.absolute = 200MB
# The log of quorum queues is kept in memory up to this size.
raft.wal_max_size_bytes = 67108864
log.console = true
log.console.level = info
log.file = false
"""


def prepare(instance: Instance) -> None:
    """Write the node's configuration."""
    folder = instance.home / "rabbitmq"
    folder.mkdir(exist_ok=True)
    (folder / "enabled_plugins").write_text("[].\n")
    configuration = CONFIGURATION.format(
        port=instance.ports["amqp"], vhost=VIRTUAL_HOST, password=instance.secrets["broker"]
    )
    write_private(folder / "rabbitmq.conf", configuration)


def environment(instance: Instance) -> dict[str, str]:
    """What the node is told; nothing is left to the machine's own RabbitMQ."""
    folder = instance.home / "rabbitmq"
    return {
        "HOME": str(folder),  # the Erlang cookie is made here
        "RABBITMQ_NODENAME": f"vouajudar-{instance.key}@localhost",
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(instance.logs),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_DIST_PORT": str(instance.ports["erlang"]),
        "ERL_EPMD_PORT": str(instance.ports["epmd"]),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RUNNING_UNDER_SYSTEMD": "true",  # the start script then becomes the node instead of guarding it
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_FLAGS,
    }


def control(instance: Instance, *arguments: str) -> str:
    """What `rabbitmqctl` answers; raises CalledProcessError when it cannot."""
    told = os.environ | environment(instance)
    done = subprocess.run([CONTROL, *arguments], env=told, capture_output=True, text=True, check=True)
    return done.stdout
