"""Every rule of the tree bites: a violation is planted in a copy, and the rule must name it."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.rules import FUNCTION_LINES_MAX, MODULE_LINES_MAX, RULES, Finding, findings

REPOSITORY = Path(__file__).resolve().parents[2]
LINTED = "contracts/src", *(str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("services/*/src"))
CHECKS = (
    "format", "lint", "types", "imports", "tidy", "generated", "history", "stored", "openapi", "problems", "settings",
)  # fmt: skip


@dataclass(frozen=True)
class Plant:
    """A line added to a module, the rule it breaks, and what the rule must say."""

    rule: str
    path: str
    line: str
    said: str

    def into(self, root: Path) -> None:
        """Add the line; a module that does not exist is created."""
        target = root / self.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a", encoding="utf-8") as file:
            file.write(f"\n{self.line}\n")


def imports(rule: str, importer: str, imported: str) -> Plant:
    """`importer` imports what it must not; the rule names both."""
    package, _, inner = importer.partition(".")
    folder = "contracts" if package == "contracts" else f"services/{package}"
    path = f"{folder}/src/{package}/{inner.replace('.', '/')}.py"
    return Plant(rule, path, f"import {imported}", f"{importer} -> {imported}")


def stray(rule: str, package: str) -> Plant:
    """A module that has no place; the rule names it."""
    folder = "contracts" if package == "contracts" else f"services/{package}"
    return Plant(rule, f"{folder}/src/{package}/helpers.py", "HELP = 1", f"{package}.helpers")


IMPORTS = [
    imports("direction", "batches.queries", "deliveries.queries"),
    imports("direction", "chassis.geo", "resources.domain"),
    imports("direction", "contracts.values", "chassis.kernel"),
    imports("service", "batches.domain.terms", "batches.tables"),
    imports("service", "batches.tables", "batches.queries"),
    imports("service", "deliveries.public_events", "deliveries.usecases"),
    imports("service", "analytics.consumers", "analytics.api"),
    imports("service", "batches.usecases", "batches.settings"),
    *(stray("service", package) for package in ("analytics", "batches", "deliveries")),
    imports("identity", "identity.tokens", "identity.repository"),
    stray("identity", "identity"),
    imports("notifications", "notifications.rendering", "notifications.usecases"),
    stray("notifications", "notifications"),
    imports("resources", "resources.usecases.rights", "resources.api"),
    imports("resources", "resources.catalogue.rows", "resources.tables"),
    stray("resources", "resources"),
    imports("webhooks", "webhooks.sender", "webhooks.dispatcher"),
    imports("webhooks", "webhooks.url_policy", "webhooks.tables"),
    stray("webhooks", "webhooks"),
    imports("chassis", "chassis.kernel", "chassis.telemetry"),
    imports("chassis", "chassis.database", "chassis.outbox"),
    stray("chassis", "chassis"),
    imports("contracts", "contracts.envelope", "contracts.registry"),
    stray("contracts", "contracts"),
    imports("edges", "batches.api", "sqlalchemy"),
    imports("edges", "batches.consumers", "batches.repository"),
    imports("edges", "resources.api.requests", "resources.tables"),
    imports("edges", "webhooks.dispatcher", "asyncpg"),
    imports("facts", "deliveries.queries", "contracts.events.batches"),
    imports("facts", "resources.usecases.requests", "contracts.events.deliveries"),
    imports("web", "batches.queries", "fastapi"),
    imports("web", "notifications.dispatcher", "starlette"),
    imports("broker", "resources.consumers", "aio_pika"),
    imports("broker", "chassis.timers", "aiormq"),
    imports("testing", "batches.main", "chassis.testing"),
]
DOMAIN = "services/batches/src/batches/domain/terms.py"
QUERIES = "services/deliveries/src/deliveries/queries.py"
COMMITS, KNOWS, TOLD = (
    "commits-only-in-the-chassis",
    "domains-import-the-standard-library-and-the-kernel",
    "domains-are-told-time-and-ids",
)
ENVIRONMENT, PRINTS = "the-environment-is-read-by-settings", "services-log-and-never-print"
JOURNEYS, SIZES = "journeys-know-the-contracts-only", "everything-has-a-size"
LONG = "\n".join(["def long() -> None:", *["    pass"] * FUNCTION_LINES_MAX])
READINGS = [
    Plant(COMMITS, QUERIES, "async def f(c): await c.commit()", "commit()"),
    Plant(COMMITS, QUERIES, "END = 'commit;'", "'commit;'"),
    Plant(COMMITS, QUERIES, "async def g(): await asyncpg.connect()", "asyncpg.connect"),
    Plant(COMMITS, QUERIES, "async def h(): await asyncpg.create_pool()", "create_pool()"),
    Plant(KNOWS, DOMAIN, "import msgspec", "msgspec"),
    Plant(KNOWS, DOMAIN, "from chassis.database import Transaction", "chassis.database"),
    Plant(KNOWS, DOMAIN, "from contracts.values import Unit", "contracts.values"),
    Plant(KNOWS, "services/analytics/src/analytics/domain.py", "from analytics import tables", "analytics.tables"),
    Plant(TOLD, DOMAIN, "NOW = datetime.now(UTC)", "datetime.now"),
    Plant(TOLD, DOMAIN, "DAY = date.today()", "date.today"),
    Plant(TOLD, DOMAIN, "import time", "time"),
    Plant(TOLD, DOMAIN, "from random import random", "random"),
    Plant(TOLD, DOMAIN, "from uuid import uuid4", "uuid4"),
    Plant(TOLD, DOMAIN, "ID = field(default_factory=uuid.uuid1)", "uuid.uuid1"),
    Plant(TOLD, DOMAIN, "from chassis.kernel import new_id", "new_id"),
    Plant(ENVIRONMENT, QUERIES, "HOME = os.environ['HOME']", "os.environ"),
    Plant(ENVIRONMENT, "services/chassis/src/chassis/database.py", "URL = os.getenv('URL')", "os.getenv"),
    Plant(ENVIRONMENT, "contracts/src/contracts/values.py", "from os import environ", "os.environ"),
    Plant(PRINTS, QUERIES, "print('here')", "print()"),
    Plant(PRINTS, "services/chassis/src/chassis/geo.py", "print('here')", "print()"),
    Plant(JOURNEYS, "tests-e2e/test_planted.py", "from batches.domain import Batch", "batches.domain"),
    Plant(JOURNEYS, "tests-e2e/test_planted.py", "import chassis.testing", "chassis.testing"),
    Plant(JOURNEYS, "tests-e2e/test_planted.py", "from chassis.testing.rig import Rig", "chassis.testing.rig.Rig"),
    Plant(JOURNEYS, "tests-e2e/failures/test_planted.py", "from chassis.outbox import Relay", "chassis.outbox.Relay"),
    Plant(SIZES, QUERIES, LONG, "long has"),
    Plant(SIZES, "services/identity/src/identity/tokens.py", "\n" * MODULE_LINES_MAX, "a module has"),
]


def copied(to: Path) -> Path:
    """What the rules look at, as it is now."""
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in (*LINTED, "tests-e2e", "scripts"):
        if (REPOSITORY / folder).is_dir():
            shutil.copytree(REPOSITORY / folder, to / folder, ignore=ignored)
    shutil.copy(REPOSITORY / ".importlinter", to)
    return to


def linted(root: Path) -> subprocess.CompletedProcess[str]:
    """`lint-imports` over a copy of the tree."""
    path = os.pathsep.join(str(root / folder) for folder in LINTED)
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    told = os.environ | {"PYTHONPATH": path, "COLUMNS": "500", "NO_COLOR": "1"}
    return subprocess.run(command, cwd=root, env=told, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def contracts() -> configparser.ConfigParser:
    """The import rules by id."""
    rules = configparser.ConfigParser()
    rules.read(REPOSITORY / ".importlinter")
    return rules


@pytest.fixture(scope="module")
def broken_imports(tmp_path_factory: pytest.TempPathFactory, contracts: configparser.ConfigParser) -> dict[str, str]:
    """What each import rule says of a tree with every violation, by the rule's id."""
    root = copied(tmp_path_factory.mktemp("imports"))
    for plant in IMPORTS:
        plant.into(root)
    lines = iter(linted(root).stdout.partition("Broken contracts")[2].splitlines())
    ids = {contracts[name]["name"]: name.rpartition(":")[2] for name in contracts if ":contract:" in name}
    return dict(_sections(lines, ids))


def _sections(lines: Iterator[str], ids: dict[str, str]) -> Iterator[tuple[str, str]]:
    """(id, text) of each rule that an output tells of; a rule's name stands alone on a line above its text."""
    current, said = "", list[str]()
    for line in lines:
        if line.strip() in ids:
            yield current, "\n".join(said)
            current, said = ids[line.strip()], []
        said.append(line)
    yield current, "\n".join(said)


@pytest.fixture(scope="module")
def broken_readings(tmp_path_factory: pytest.TempPathFactory) -> list[Finding]:
    """What `scripts/tidy` finds in a tree with every violation."""
    root = copied(tmp_path_factory.mktemp("tidy"))
    for plant in READINGS:
        plant.into(root)
    return findings(root)


def test_the_tree_as_it_is_holds(tmp_path: Path) -> None:
    """Without a plant nothing is found, so that whatever is found below was planted."""
    root = copied(tmp_path)
    done = linted(root)

    assert done.returncode == 0, done.stdout
    assert findings(root) == []


@pytest.mark.parametrize("plant", IMPORTS, ids=lambda plant: f"{plant.rule}: {plant.said}")
def test_an_import_that_must_not_be_is_named(plant: Plant, broken_imports: dict[str, str]) -> None:
    """The rule that forbids it says who imports what."""
    assert plant.said in broken_imports.get(plant.rule, "the rule holds")


def test_every_import_rule_was_broken(contracts: configparser.ConfigParser) -> None:
    """There is a plant for each rule in `.importlinter`."""
    assert {name.rpartition(":")[2] for name in contracts if ":contract:" in name} == {each.rule for each in IMPORTS}


def test_every_package_is_under_the_rules(contracts: configparser.ConfigParser) -> None:
    """Each member of the workspace is known to the import rules, in the order of services and as a family or alone."""
    packages = {path.parent.name for path in REPOSITORY.glob("services/*/src/*/__init__.py")} | {"contracts"}
    containers = [
        package
        for name in contracts
        if contracts[name].get("exhaustive") == "True"
        for package in contracts[name]["containers"].split()
    ]

    assert set(contracts["importlinter"]["root_packages"].split()) == packages
    assert sorted(containers) == sorted(packages)
    for name in ("direction", "web", "broker"):
        rule = contracts[f"importlinter:contract:{name}"]
        named = set(rule.get("layers", "").replace("|", " ").split()) | set(rule.get("source_modules", "").split())
        assert packages - named <= {"chassis"}, name


@pytest.mark.parametrize("plant", READINGS, ids=lambda plant: f"{plant.rule}: {plant.said}")
def test_what_must_not_be_written_is_found(plant: Plant, broken_readings: list[Finding]) -> None:
    """The rule that forbids it says where and what."""
    assert any(
        (each.rule, each.path) == (plant.rule, plant.path) and plant.said in each.text for each in broken_readings
    )


def test_every_reading_rule_was_broken() -> None:
    """There is a plant for each rule of `scripts/tidy`."""
    assert {rule.__name__.replace("_", "-") for rule in RULES} == {plant.rule for plant in READINGS}


def test_tidy_says_what_it_finds(tmp_path: Path) -> None:
    """Places and rules on standard output, and an exit code that stops a build."""
    Plant(PRINTS, "services/batches/src/batches/queries.py", "print(1)", "").into(tmp_path)

    done = subprocess.run([REPOSITORY / "scripts/tidy", tmp_path], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (
        1,
        f"{'services/batches/src/batches/queries.py'}:2: {PRINTS}: print() is no log event\n",
    )


@pytest.fixture
def stubbed(tmp_path: Path) -> Path:
    """`scripts/check` among tools that succeed unless the variable BREAK names a part of their command."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    shutil.copy(REPOSITORY / "scripts/check", tmp_path / "scripts/check")
    tools = [tmp_path / ".venv/bin" / name for name in ("ruff", "mypy", "lint-imports", "python")]
    for tool in (*tools, tmp_path / "scripts/setup", tmp_path / "scripts/tidy"):
        tool.write_text('#!/bin/sh\ncase "$0 $*" in *"$BREAK"*) echo "it is $BREAK"; exit 1;; esac\n')
        tool.chmod(0o755)
    return tmp_path / "scripts/check"


def checked(script: Path, broken: str) -> subprocess.CompletedProcess[str]:
    """One run with a broken part."""
    told = {"PATH": os.environ["PATH"], "BREAK": broken}
    return subprocess.run([script], env=told, capture_output=True, text=True, check=False)


def test_check_succeeds_when_all_hold(stubbed: Path) -> None:
    """Every check is named once, in its order, and the end is a success."""
    done = checked(stubbed, "nothing at all")

    assert done.returncode == 0, done.stdout
    assert tuple(line.split()[0] for line in done.stdout.splitlines()[:-1]) == CHECKS


@pytest.mark.parametrize(
    ("name", "part"),
    zip(
        CHECKS,
        (
            "ruff format --check",
            "ruff check",
            "bin/mypy contracts/src",
            "lint-imports",
            "scripts/tidy",
            "contracts.generate --check",
            "contracts.history",
            "scripts.stored_examples --check",
            "scripts.openapi --check",
            "scripts.problem_codes --check",
            "scripts.settings --check",
        ),
        strict=True,
    ),
)
def test_one_failing_check_fails_the_run(stubbed: Path, name: str, part: str) -> None:
    """Its output is shown, the others still run, and the exit code is 1."""
    done = checked(stubbed, part)

    assert done.returncode == 1
    assert f"it is {part}" in done.stdout
    assert done.stdout.splitlines()[-1] == f"scripts/check: {name} failed"
    assert done.stdout.count(" ok ") == len(CHECKS) - 1
