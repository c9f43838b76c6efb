"""What a run leaves for the next one: people with their passwords, organizations, places, keys. Readable by its owner only."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.demo_run.client import Person

STATE_FILE = "demo.json"


@dataclass
class Account:
    """Somebody's credentials; `id` is empty until the account exists."""

    email: str
    password: str
    name: str
    locale: str
    id: str = ""


@dataclass
class State:
    """Everything by a name that is the same in every run."""

    seed: str = field(default_factory=lambda: secrets.token_hex(3))
    runs: int = 0
    accounts: dict[str, Account] = field(default_factory=dict)
    organizations: dict[str, str] = field(default_factory=dict)  # name -> id
    verified: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)  # "organization/account"
    places: dict[str, str] = field(default_factory=dict)  # name -> id
    profiles: list[str] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)  # "account/role"
    partner_key: str = ""
    catalogue_key: str = ""
    endpoint: dict[str, str] = field(default_factory=dict)  # id and secret
    carried: dict[str, list[str]] = field(default_factory=dict)  # account -> when it claimed
    unfinished: list[dict[str, Any]] = field(default_factory=list)


def load(path: Path) -> State:
    """The state that an earlier run left, or a new one."""
    if not path.exists():
        return State()
    content = json.loads(path.read_text())
    content["accounts"] = {name: Account(**account) for name, account in content["accounts"].items()}
    return State(**content)


def save(path: Path, state: State) -> None:
    """Replace the file in one step; nobody but its owner can read it at any moment."""
    draft = path.with_name(f".{path.name}.draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(state), file, indent=1)
    draft.replace(path)


def person_of(account: Account) -> Person:
    """Somebody who can sign in."""
    return Person(account.email, account.password, account.name, account.locale, account.id)
