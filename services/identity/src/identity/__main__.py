"""`python -m identity api|worker|all|migrate|refold`, and `create-admin EMAIL` with the password on standard input."""

from __future__ import annotations

import getpass
import sys

import asyncpg
import uvloop
from chassis.app import main
from chassis.kernel import DomainError

from identity.domain import PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, is_email
from identity.main import build, create_admin


def _password() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("Password: ")
    return sys.stdin.readline().rstrip("\r\n")


def _create_admin(email: str) -> None:
    password = _password()
    if not is_email(email):
        sys.exit(f"create-admin: {email!r} is no e-mail address")
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX:
        sys.exit(f"create-admin: a password has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters")
    try:
        created = uvloop.run(create_admin(email, password))
    except (DomainError, OSError, asyncpg.PostgresError) as error:
        sys.exit(f"create-admin: {error}")
    print(
        f"{email} is a new admin" if created else f"{email} was there already and is an admin now, password unchanged"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["create-admin"] and len(sys.argv) == 3:
        _create_admin(sys.argv[2])
    elif sys.argv[1:2] == ["create-admin"]:
        sys.exit("usage: python -m identity create-admin EMAIL")
    else:
        main(build)
