"""What imports cannot show: rules that read the code itself. `python -m scripts.rules [ROOT]` exits 1 with what it found."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 600
SOURCES = ("contracts/src", "services/*/src", "scripts", "tests-e2e", "gateway")
ENVIRONMENT_READERS = ("settings", "telemetry", "testing")
IMPURE_MODULES = frozenset({"time", "random", "secrets", "os", "asyncio", "socket", "subprocess"})
CLOCKS = frozenset({"now", "utcnow", "today"})
RANDOM_IDS = frozenset({"uuid1", "uuid4", "uuid6", "uuid7", "new_id", "urandom"})
CONNECTIONS = frozenset({"commit", "create_pool", "create_engine", "create_async_engine"})
TRANSACTION_WORDS = frozenset({"BEGIN", "COMMIT", "ROLLBACK", "START TRANSACTION"})

Found = Iterator[tuple[ast.AST, str]]


@dataclass(frozen=True)
class Source:
    """A module: where it is, below the root, and its syntax."""

    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax; a file that does not parse is a SyntaxError."""
        return ast.parse(self.text, str(self.path))

    @cached_property
    def package(self) -> str:
        """The installed package that it is part of, or nothing."""
        parts = self.path.parts
        return parts[parts.index("src") + 1] if "src" in parts[:-2] else ""

    @cached_property
    def module(self) -> tuple[str, ...]:
        """Its dotted name below the package, in parts: `("domain", "batch")`."""
        if not self.package:
            return ()
        parts = self.path.with_suffix("").parts
        return tuple(part for part in parts[parts.index("src") + 2 :] if part != "__init__")

    @property
    def in_service(self) -> bool:
        """A module of one of the services."""
        return self.path.parts[0] == "services" and self.package not in ("", "chassis")

    @property
    def in_domain(self) -> bool:
        """A module of a service's domain."""
        return self.in_service and self.module[:1] == ("domain",)


@dataclass(frozen=True, order=True)
class Finding:
    """A broken rule, as compilers say it."""

    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        """`path:line: rule: text`."""
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


def commits_only_in_the_chassis(source: Source) -> Found:
    """Only the chassis opens connections, begins and commits."""
    if not source.in_service:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CONNECTIONS:
            yield node, f"{node.func.attr}() is for the chassis"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "asyncpg.connect":
            yield node, "asyncpg.connect is for the chassis"
        elif isinstance(node, ast.Constant) and str(node.value).strip().rstrip(";").upper() in TRANSACTION_WORDS:
            yield node, f"{node.value!r} is for the chassis"


def domains_import_the_standard_library_and_the_kernel(source: Source) -> Found:
    """A domain knows the standard library, `chassis.kernel` and itself."""
    if not source.in_domain:
        return
    own = f"{source.package}.domain"
    for node, name in _imports(source.tree):
        known = name == own or name.startswith((f"{own}.", "chassis.kernel."))
        if not known and name.partition(".")[0] not in sys.stdlib_module_names:
            yield node, f"a domain does not know {name}"


def domains_are_told_time_and_ids(source: Source) -> Found:
    """No clock, no random id and no outside world in a domain."""
    if not source.in_domain:
        return
    for node, name in _imports(source.tree):
        if name.partition(".")[0] in IMPURE_MODULES or name.rpartition(".")[2] in RANDOM_IDS:
            yield node, f"{name} is not for a domain: it is told time and ids"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in CLOCKS | RANDOM_IDS:
            owner = ast.unparse(node.value).rpartition(".")[2]
            if owner in ("datetime", "date", "uuid", "kernel", "os"):
                yield node, f"{ast.unparse(node)} is not for a domain: it is told time and ids"


def the_environment_is_read_by_settings(source: Source) -> Found:
    """Everything that a process is told comes through its settings."""
    if not source.package or source.module[:1] in {(name,) for name in ENVIRONMENT_READERS}:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv", "os.environb"):
            yield node, f"{ast.unparse(node)} is for settings"
    for node, name in _imports(source.tree):
        if name in ("os.environ", "os.getenv", "os.environb"):
            yield node, f"{name} is for settings"


def services_log_and_never_print(source: Source) -> Found:
    """Logs are events; only a command's `__main__` speaks to a terminal."""
    if source.path.parts[0] != "services" or not source.package or source.module == ("__main__",):
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield node, "print() is no log event"


def journeys_know_the_contracts_only(source: Source) -> Found:
    """Tests of the whole see it from outside; those of faults have what breaks it: `chassis.testing`."""
    if source.path.parts[0] != "tests-e2e":
        return
    breaks = source.path.parts[1] == "failures"
    for node, name in _imports(source.tree):
        if name.partition(".")[0] in _PACKAGES and not (breaks and name.startswith("chassis.testing.")):
            yield node, f"a journey does not know {name}"


def everything_has_a_size(source: Source) -> Found:
    """A function ends by 60 lines, a module by 600."""
    if source.text.count("\n") > MODULE_LINES_MAX:
        yield source.tree, f"a module has at most {MODULE_LINES_MAX} lines: split it by intention"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield node, f"{node.name} has {lines} lines, at most {FUNCTION_LINES_MAX} are meant"


_PACKAGES = frozenset(
    {"chassis", "identity", "batches", "deliveries", "resources", "notifications", "analytics", "webhooks"}
)
RULES: tuple[Callable[[Source], Found], ...] = (
    commits_only_in_the_chassis,
    domains_import_the_standard_library_and_the_kernel,
    domains_are_told_time_and_ids,
    the_environment_is_read_by_settings,
    services_log_and_never_print,
    journeys_know_the_contracts_only,
    everything_has_a_size,
)


def _imports(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Each imported name, dotted: `from uuid import UUID` is `uuid.UUID`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, f"{node.module or '.'}.{alias.name}") for alias in node.names)


def findings(root: Path) -> list[Finding]:
    """Everything that breaks a rule below a root, in order of place."""
    found = []
    for path in sorted({path for pattern in SOURCES for path in root.glob(f"{pattern}/**/*.py")}):
        source = Source(path.relative_to(root), path.read_text(encoding="utf-8"))
        for rule in RULES:
            for node, text in rule(source):
                found.append(
                    Finding(str(source.path), getattr(node, "lineno", 1), rule.__name__.replace("_", "-"), text)
                )
    return sorted(found)


def main(arguments: list[str]) -> int:
    """0 when every rule holds, 1 otherwise."""
    found = findings(Path(arguments[0]) if arguments else Path.cwd())
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
