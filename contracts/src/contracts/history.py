"""Holds what is about to be published against every version that ever was: nothing shipped may stop being understood.

`python -m contracts.history` walks the schemas and golden examples on the first-parent history of main, and the work
tree. A type that is gone, a schema that breaks an earlier one (`contracts.compatibility`), and an example that today's
models do not decode are named; then it exits 1. A tool for a checkout, never imported at run time; it needs git.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contracts.compatibility import breaks, with_unknown_fields
from contracts.generate import CONTRACTS, EXAMPLES, SCHEMAS
from contracts.registry import Undecodable, decode

SINCE = "80d89b936bceef3c6e7d0794eec8179db2ae9f75"  # the first release; what was committed before reached nobody
WITHDRAWN: Mapping[
    str, str
] = {}  # blob id → why this version, though committed, reached nobody; unused ones are refused
GIT_S_MAX = 60  # longer than this a repository of this size is broken, not slow

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """One text that a file had, and the commit that brought it; `""` for the work tree."""

    path: str
    blob: str
    commit: str
    text: bytes

    @property
    def name(self) -> str:
        """The event type, or `envelope`."""
        return Path(self.path).stem

    @property
    def origin(self) -> str:
        """Where it came in, for people."""
        return self.commit[:10] or "the work tree"


@dataclass(frozen=True, slots=True)
class History:
    """Every version of some folders' JSON files, newest first, and what people should know about how far it reaches."""

    versions: Sequence[Version]
    notes: Sequence[str]


def history(root: Path, folders: Sequence[str], *, since: str = SINCE) -> History:
    """What main ever had below `root` since a commit, up to where the work tree left it, and the work tree itself.

    Only the latter where there is no git history.
    """
    present = [
        Version(str(path.relative_to(root)), "", "", path.read_bytes())
        for folder in folders
        for path in sorted((root / folder).glob("**/*.json"))
    ]
    base = _base(root)
    if not base:
        return History(present, [f"no git history at {root}: only what is there was checked, against itself"])
    notes = []
    if _git_says(root, "rev-parse", "--is-shallow-repository") == "true":
        notes.append("the git history is cut off (shallow): older versions were not checked")
    if _git_says(root, "merge-base", since, base) != since:
        notes.append(f"{since[:10]} is not in the history: everything there counts as shipped")
        since = ""
    return History([*present, *_committed(root, folders, base, since)], notes)


def _base(root: Path) -> str:
    """The commit of main that the work tree grew from; HEAD where there is no main, nothing where there is no git."""
    main = next(
        (ref for ref in ("main", "origin/main", "HEAD") if _git_says(root, "rev-parse", "-q", "--verify", ref)), ""
    )
    return main and _git_says(root, "merge-base", main, "HEAD")


def _committed(root: Path, folders: Sequence[str], base: str, since: str) -> list[Version]:
    command = ["log", "--first-parent", "--raw", "--no-abbrev", "--no-renames", "--relative", "--format=%H"]
    commits = f"{since}..{base}" if since else base
    found: dict[tuple[str, str], str] = {}  # path and blob → the last commit that brought it
    commit = ""
    for line in _git(root, *command, commits, "--", *folders).decode().splitlines():
        if line.startswith(":"):
            blob, path = line.split()[3], line.partition("\t")[2]
            found.setdefault((path, blob), commit)
        elif line:
            commit = line
    if since:
        for line in _git(root, "ls-tree", "-r", since, "--", *folders).decode().splitlines():
            found.setdefault((line.partition("\t")[2], line.split()[2]), since)
    wanted = [key for key in found if key[0].endswith(".json") and set(key[1]) != {"0"}]
    texts = _texts(root, [blob for _, blob in wanted])
    return [Version(path, blob, found[path, blob], texts[blob]) for path, blob in wanted]


def _texts(root: Path, blobs: Sequence[str]) -> dict[str, bytes]:
    """The content of each blob, from one git process."""
    output = _git(root, "cat-file", "--batch", given="\n".join(blobs).encode())
    texts, position = {}, 0
    while position < len(output):
        head, _, _ = output[position:].partition(b"\n")
        blob, _, size = head.decode().split()
        begin = position + len(head) + 1
        texts[blob] = output[begin : begin + int(size)]
        position = begin + int(size) + 1
    return texts


def _git(root: Path, *arguments: str, given: bytes = b"") -> bytes:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, input=given, capture_output=True, check=True, timeout=GIT_S_MAX).stdout  # noqa: S603


def _git_says(root: Path, *arguments: str) -> str:
    """What git answers in one word; nothing when it says no, or is not there."""
    try:
        return _git(root, *arguments).decode().strip()
    except (subprocess.CalledProcessError, FileNotFoundError):
        return ""


def faults(root: Path, shipped: History, withdrawn: Mapping[str, str] = WITHDRAWN) -> list[str]:
    """Everything by which today's contracts let down somebody who relied on an earlier version."""
    today = {path.stem: json.loads(path.read_bytes()) for path in (root / SCHEMAS).glob("*.json")}
    found: dict[str, str] = {}  # what is wrong → the newest version that had it right
    for version in shipped.versions:
        if version.blob not in withdrawn:
            for fault in _faults_of(version, today):
                found.setdefault(f"{version.name}: {fault}", version.origin)
    unused = withdrawn.keys() - {version.blob for version in shipped.versions} if not shipped.notes else ()
    return [
        *(f"{fault} (in {origin})" for fault, origin in found.items()),
        *(f"{blob} is withdrawn and was never there" for blob in sorted(unused)),
    ]


def _faults_of(version: Version, today: Mapping[str, Json]) -> Iterable[str]:
    is_schema = version.path.startswith(SCHEMAS)
    if version.name not in today:
        return ["was shipped and is gone: a type stays for ever, marked deprecated"] if is_schema else []
    if is_schema:
        return breaks(json.loads(version.text), today[version.name])
    return _misunderstood(version.text, today[version.name], today.get("envelope", {}))


def _misunderstood(example: bytes, schema: Json, envelope: Json) -> Iterator[str]:
    """Why today's models do not take an example that was shipped, as it is or with fields they do not know."""
    try:
        received = decode(example)
        whole = json.loads(example)
        later = with_unknown_fields(whole, envelope) | {"data": with_unknown_fields(whole["data"], schema)}
        tolerant = decode(json.dumps(later).encode())
    except Undecodable as error:
        yield f"its example is not understood any more: {' '.join(str(error).split())}"
        return
    if tolerant.event != received.event:
        yield "a field that it does not know changes what it understands"


def main(root: Path = CONTRACTS) -> int:
    """Exit code: 0 when nothing shipped is let down, 1 with what is, 2 outside a checkout."""
    if not (root / "pyproject.toml").is_file():
        sys.stderr.write("contracts.history works on a checkout, not on an installed package\n")
        return 2
    shipped = history(root, [SCHEMAS, EXAMPLES])
    sys.stdout.writelines(f"note: {note}\n" for note in shipped.notes)
    found = faults(root, shipped)
    sys.stdout.writelines(f"{fault}\n" for fault in found)
    if found:
        sys.stdout.write(
            "What shipped stays as it is; another shape is a new major (contracts/README.md, 'Changing an event').\n"
        )
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
