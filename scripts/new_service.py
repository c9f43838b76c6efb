"""Write a new service from the pattern: same file names, same jobs; then say what is left to do by hand."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from string import Template

REPOSITORY = Path(__file__).resolve().parents[1]
TEMPLATES = Path(__file__).with_name("templates") / "service"
NAME = re.compile(r"[a-z]{3,30}")


def create(name: str, repository: Path) -> Path:
    """Write `services/<name>` and make it a member of the workspace; raises ValueError for a name that cannot be one."""
    if not NAME.fullmatch(name):
        raise ValueError("a name is 3 to 30 lower-case ASCII letters")
    target = repository / "services" / name
    if target.exists():
        raise ValueError(f"{target.relative_to(repository)} is there already")
    for template in sorted(TEMPLATES.rglob("*.txt")):
        path = str(template.relative_to(TEMPLATES).with_suffix("")).replace("SERVICE", name)
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(template.read_text(encoding="utf-8")).substitute(service=name), encoding="utf-8")
    for empty in (f"src/{name}/__init__.py", f"src/{name}/py.typed", f"src/{name}/migrations/__init__.py"):
        (target / empty).touch()
    _join_workspace(name, repository / "pyproject.toml")
    return target


def _join_workspace(name: str, project: Path) -> None:
    text = project.read_text(encoding="utf-8")
    text = text.replace('"services/webhooks"]', f'"services/webhooks", "services/{name}"]')
    text = text.replace('"services/webhooks/src"]', f'"services/webhooks/src", "services/{name}/src"]')
    project.write_text(text, encoding="utf-8")


def main() -> int:
    """`scripts/new-service NAME`."""
    if len(sys.argv) != 2:
        print("usage: scripts/new-service NAME", file=sys.stderr)
        return 2
    try:
        target = create(sys.argv[1], REPOSITORY)
    except ValueError as error:
        print(f"new-service: {error}", file=sys.stderr)
        return 1
    print(
        f"{target.relative_to(REPOSITORY)} is there. By hand: its name in contracts/topology.py and scripts/stack/instance.py,"
    )
    print("its paths in gateway/dynamic/, its events in contracts/events/, then scripts/lock and scripts/check.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
