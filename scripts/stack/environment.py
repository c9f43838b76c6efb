"""What each process is told, and `stack.env`: the same for whoever wants to talk to the instance."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from urllib.parse import quote

from scripts.stack.instance import REPOSITORY, SERVICES, Instance, write_private

VIRTUAL_HOST = "vouajudar"
ADMIN_ROLE = "vouajudar_admin"
# Endpoints of webhooks may live on this machine, as the demo's do; a caller's own setting wins.
DEFAULTS = {"VAJ_WEBHOOKS_ALLOWED_NETWORKS": "127.0.0.0/8,::1/128"}
# They choose the instance and are no settings of a service.
CHOOSES_INSTANCE = {"VAJ_HOME", "VAJ_PORT", "VAJ_BIND", "VAJ_STACK_HOME"}
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TERM", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
SHARE_INTERNAL_TOKEN = {"identity", "notifications"}


def database_url(instance: Instance, role: str, database: str) -> str:
    """A PostgreSQL address with the password of that role."""
    secret = instance.secrets["database_admin" if role == ADMIN_ROLE else f"database_{role}"]
    return f"postgresql://{role}:{quote(secret)}@127.0.0.1:{instance.ports['postgres']}/{database}"


def admin_database_url(instance: Instance) -> str:
    """The superuser's address, for the set-up and for tests."""
    return database_url(instance, ADMIN_ROLE, "postgres")


def broker_url(instance: Instance) -> str:
    """The RabbitMQ address with user, password and virtual host."""
    return f"amqp://vouajudar:{quote(instance.secrets['broker'])}@127.0.0.1:{instance.ports['amqp']}/{VIRTUAL_HOST}"


def redis_url(instance: Instance) -> str:
    """The Redis address with its password."""
    return f"redis://:{quote(instance.secrets['redis'])}@127.0.0.1:{instance.ports['redis']}/0"


def smtp_url(instance: Instance) -> str:
    """The address of the mail server that keeps everything it is given."""
    return f"smtp://127.0.0.1:{instance.ports['smtp']}"


def passed_through(caller: Mapping[str, str]) -> dict[str, str]:
    """The settings the caller made for all services: `VAJ_*` and `OTEL_*`."""
    return {
        name: value
        for name, value in caller.items()
        if name.startswith(("VAJ_", "OTEL_")) and name not in CHOOSES_INSTANCE
    }


def service_environment(instance: Instance, service: str, caller: Mapping[str, str]) -> dict[str, str]:
    """Everything one service is told; what the instance decides wins over the caller, defaults do not."""
    api, ops = instance.service_ports(service)
    decided = {
        "VAJ_SERVICE": service,
        "VAJ_DATABASE_URL": database_url(instance, service, service),
        "VAJ_BROKER_URL": broker_url(instance),
        "VAJ_REDIS_URL": redis_url(instance),
        "VAJ_HOST": "127.0.0.1",
        "VAJ_API_PORT": str(api),
        "VAJ_OPS_PORT": str(ops),
        "VAJ_SECRET_KEY": instance.secrets[f"key_{service}"],
        "VAJ_OBJECT_STORE_URL": (instance.home / "objects").as_uri(),
    }
    if service in SHARE_INTERNAL_TOKEN:
        decided["VAJ_INTERNAL_TOKEN"] = instance.secrets["internal_token"]
    if service in ("identity", "notifications"):
        decided["VAJ_PUBLIC_URL"] = instance.public_url
    if service == "notifications":
        decided["VAJ_SMTP_URL"] = smtp_url(instance)
        decided["VAJ_IDENTITY_INTERNAL_URL"] = f"http://127.0.0.1:{instance.ports['identity_ops']}"
    return DEFAULTS | passed_through(caller) | decided


def base_environment(instance: Instance, caller: Mapping[str, str]) -> dict[str, str]:
    """What every process of the instance inherits; `VAJ_STACK_HOME` marks it as one of ours."""
    inherited = {name: caller[name] for name in INHERITED if name in caller}
    marked = {"VAJ_STACK_HOME": str(instance.home), "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
    return inherited | marked


def settings(instance: Instance) -> dict[str, str]:
    """Addresses and credentials of the whole instance, as `stack.env` has them."""
    found = {
        "VAJ_HOME": str(instance.home),
        "VAJ_PORT": str(instance.ports["public"]),
        "VAJ_PUBLIC_URL": instance.public_url,
        "VAJ_DATABASE_ADMIN_URL": admin_database_url(instance),
        "VAJ_BROKER_URL": broker_url(instance),
        "VAJ_REDIS_URL": redis_url(instance),
        "VAJ_SMTP_URL": smtp_url(instance),
        "VAJ_MAILDIR": str(instance.home / "mail"),
        "VAJ_LOGS": str(instance.logs),
        "VAJ_INTERNAL_TOKEN": instance.secrets["internal_token"],
        "VAJ_IDENTITY_INTERNAL_URL": f"http://127.0.0.1:{instance.ports['identity_ops']}",
    }
    for service in SERVICES:
        api, ops = instance.service_ports(service)
        prefix = f"VAJ_{service.upper()}"
        found[f"{prefix}_DATABASE_URL"] = database_url(instance, service, service)
        found[f"{prefix}_API_URL"] = f"http://127.0.0.1:{api}"
        found[f"{prefix}_OPS_URL"] = f"http://127.0.0.1:{ops}"
        found[f"{prefix}_SECRET_KEY"] = instance.secrets[f"key_{service}"]
    return found


def write_settings(instance: Instance) -> None:
    """Leave `stack.env` for shells, tests, demo and bench."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings(instance).items()]
    write_private(instance.home / "stack.env", "\n".join(lines) + "\n")
