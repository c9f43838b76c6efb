"""The first admin, made by the operator's own script; the password is generated and kept for later runs."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

from scripts.demo_run import state
from scripts.demo_run.stack import REPOSITORY
from scripts.demo_run.state import Account, State

ADMIN = "admin"


def first_admin(known: State, path: Path) -> Account:
    """An admin's credentials, kept at `path` before they count; made again they stay as they are."""
    if ADMIN not in known.accounts:
        email = f"{ADMIN}.{known.seed}@demo.example"
        known.accounts[ADMIN] = Account(email, secrets.token_urlsafe(18), "Admin", "pt-BR")
        state.save(path, known)
    account = known.accounts[ADMIN]
    subprocess.run(
        [REPOSITORY / "scripts" / "create-admin", account.email],
        input=f"{account.password}\n", text=True, check=True, capture_output=True,
    )  # fmt: skip
    return account
