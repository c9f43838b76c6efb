"""The state machines of the domains, each in a process of its own, with thousands of examples instead of some dozens."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from scripts.stack import REPOSITORY

EXAMPLES_MIN = 5_000  # what the profile `deep` asks for; a machine that runs out of ideas before has not been tried
AT_ONCE = os.cpu_count() or 1
LOOK_EVERY_S = 0.2
SERVICES = "services/*/tests"


@dataclass(frozen=True)
class Tried:
    """One machine, and what its run came to."""

    test: str
    report: Path
    exit_code: int
    duration_s: float
    output: str

    @property
    def examples(self) -> int:
        """How many examples went through the machine without a complaint."""
        return examples_of(self.report)

    @property
    def enough(self) -> bool:
        """It passed, and often enough."""
        return self.exit_code == 0 and self.examples >= EXAMPLES_MIN

    def line(self) -> str:
        """What is said of it."""
        name = self.test.partition("::")[0]
        return f"{name:<60} {self.examples:>6} examples {self.duration_s:>5.0f} s  {'ok' if self.enough else 'FAILED'}"


def machines(paths: Sequence[Path], options: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """The tests marked as machines, by pytest's names for them; raises RuntimeError when tests cannot be collected."""
    folders = [*map(str, paths)] or sorted(str(each.relative_to(REPOSITORY)) for each in REPOSITORY.glob(SERVICES))
    command = [sys.executable, "-m", "pytest", "--collect-only", "-m", "machine", *folders, *options]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"no machines:\n{done.stdout}{done.stderr}")
    return [line for line in done.stdout.splitlines() if "::" in line]


def tried(tests: Sequence[str], reports: Path, environment: Mapping[str, str]) -> Iterator[Tried]:
    """Run the machines, as many at once as there are cores, and tell of each as it ends."""
    waiting = [_Run(test, reports, environment) for test in tests]
    running: list[_Run] = []
    try:
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                running.append(waiting.pop(0).start())
            time.sleep(LOOK_EVERY_S)
            for run in [each for each in running if each.ended]:
                running.remove(run)
                yield run.told()
    finally:
        for run in running:
            run.kill()


def examples_of(report: Path) -> int:
    """The examples that Hypothesis says passed, in a report of pytest; none without a report."""
    if not report.exists():
        return 0
    told = ElementTree.parse(report).getroot().iter("property")  # noqa: S314  # our own file
    values = [each.get("value", "") for each in told if each.get("name", "").startswith("hypothesis-statistics-")]
    return sum(int(found) for value in values for found in re.findall(r"(\d+) passing", _plain(value)))


def _plain(value: str) -> str:
    return base64.b64decode(value).decode()


class _Run:
    """A machine in a process of its own."""

    def __init__(self, test: str, reports: Path, environment: Mapping[str, str]) -> None:
        self._test, self._environment = test, environment
        name = Path(test.partition("::")[0]).stem
        self._report, self._log = reports / f"deep-{name}.xml", reports / f"deep-{name}.log"

    def start(self) -> _Run:
        self._report.unlink(missing_ok=True)
        told = [f"--junitxml={self._report}", "--hypothesis-profile=deep", self._test]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *told], env=self._environment, cwd=REPOSITORY, stdout=log, stderr=log
            )
        self._began = time.monotonic()
        return self

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def told(self) -> Tried:
        duration_s = time.monotonic() - self._began
        return Tried(self._test, self._report, self._process.returncode, duration_s, self._log.read_text())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
