"""Run the checks and every test against servers of their own; one line at the end says how it went."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from scripts import deep
from scripts.stack import REPOSITORY, Stack, StackError

END_TO_END = Path("tests-e2e")
FAULTS = END_TO_END / "failures"
WITH_FAULTS, DEEP = "--faults", "--deep"
NO_TESTS = 5  # pytest's exit code for an empty collection
PASSED = {0, NO_TESTS}


@dataclass
class Tally:
    """What all runs together came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    broken: list[str] = field(default_factory=list)

    def add(self, report: Path, name: str, exit_code: int) -> None:
        """Count one pytest run; one that ended badly without a failed test is broken."""
        failed_before = self.failed
        if report.exists():
            for suite in ElementTree.parse(report).getroot().iter("testsuite"):  # noqa: S314  # our own file
                bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
                skipped = int(suite.get("skipped", 0))
                self.failed += bad
                self.skipped += skipped
                self.passed += int(suite.get("tests", 0)) - bad - skipped
        if exit_code not in PASSED and self.failed == failed_before:
            self.broken.append(name)

    def succeeded(self) -> bool:
        """Whether tests ran and all of them passed."""
        return self.passed > 0 and not self.failed and not self.broken

    def line(self) -> str:
        """The last line of a run."""
        parts = [f"{self.passed} passed", f"{self.failed} failed"]
        if self.skipped:
            parts.append(f"{self.skipped} skipped")
        return ", ".join([*parts, *(f"{name} broken" for name in self.broken)])


class Suite:
    """One run of `scripts/test` in an instance of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        # Settings of the caller's own instance have no say in how tests run.
        self.environment = {name: value for name, value in environment.items() if not name.startswith("VAJ_")}
        self.stack = Stack(REPOSITORY / ".local/test", caller=self.environment)
        self.beside = Stack(REPOSITORY / ".local/test-beside", caller=self.environment)
        self.reports = REPOSITORY / ".local/test-reports"
        self.tally = Tally()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._telling = threading.Lock()

    def on_servers(self, paths: Sequence[Path], options: Sequence[str], *, faults: bool) -> None:
        """What was asked for, on servers that are gone afterwards."""
        try:
            self.servers()
            if faults and (paths or options):
                self.faults(paths or [FAULTS], options)
            elif faults:
                self.every_fault()
            elif paths or options:
                self.selected(paths or all_folders(), options)
            else:
                self.everything()
        finally:
            self.stack.down()

    def everything(self) -> None:
        """The checks, each member's tests on bare servers, then the journeys through the whole stack."""
        self._check()
        self.members()
        self.servers()  # queues that the tests before left bound would take what should be unroutable
        self.run(FAULTS.as_posix(), [FAULTS], ["-m", "fault and not slow and not whole_stack"])
        self.whole_stack()
        self.run(END_TO_END.name, [END_TO_END], [f"--ignore={FAULTS}"])
        self.run(f"{FAULTS} on the whole stack", [FAULTS], ["-m", "whole_stack and not slow"])

    def members(self) -> None:
        """Each member's tests, the most first, two members at a time on servers of their own: most of it is waiting."""
        waiting = iter(sorted(all_folders(), key=_characters, reverse=True))
        try:
            self.servers(self.beside)
            with ThreadPoolExecutor() as pool:
                lanes = [pool.submit(self._lane, stack, waiting) for stack in (self.stack, self.beside)]
                try:
                    for lane in lanes:
                        lane.result()
                except BaseException:
                    self._give_up(waiting)
                    raise
        finally:
            self.beside.down()

    def _lane(self, stack: Stack, waiting: Iterator[Path]) -> None:
        for folder in waiting:
            name = folder.parent.as_posix()
            output = self.reports / f"{name.replace('/', '-')}.log"
            with output.open("wb") as file:
                self.run(name, [folder], ["-m", "not slow"], stack=stack, output=file)

    def _give_up(self, waiting: Iterator[Path]) -> None:
        for _ in waiting:
            pass
        for process in [*self._running]:
            process.terminate()

    def every_fault(self) -> None:
        """Those with a ledger, and those that members' own tests bring about."""
        self.faults([FAULTS], [])
        self.servers()
        for folder in all_folders():
            if folder.parts[0] == "services" and self._collects([folder], ["-m", "fault"]):
                self.run(f"{folder.parent} faults", [folder], ["-m", "fault", "-vv"])

    def faults(self, paths: Sequence[Path], options: Sequence[str]) -> None:
        """Those of the rig, slow ones included; the servers they break are this run's own."""
        self.run(f"{FAULTS} on bare servers", paths, ["-m", "not whole_stack", *options])
        if self._collects(paths, ["-m", "whole_stack", *options]):
            self.whole_stack()
            self.run(f"{FAULTS} on the whole stack", paths, ["-m", "whole_stack", *options])

    def deep(self, paths: Sequence[Path], options: Sequence[str]) -> None:
        """Every state machine, thousands of times; they need no servers."""
        say("state machines")
        environment = self.environment | {"PYTHONPATH": str(REPOSITORY)}
        tests = deep.machines([tests_of(path) for path in paths], options, environment)
        for tried in deep.tried(tests, self.reports, environment):
            print(tried.line() if tried.enough else f"{tried.output}\n{tried.line()}", flush=True)
            self.tally.add(tried.report, tried.test, tried.exit_code)
            if tried.exit_code == 0 and not tried.enough:
                self.tally.broken.append(tried.test)

    def _collects(self, paths: Sequence[Path], options: Sequence[str]) -> bool:
        """Whether there is anything to run."""
        command = [sys.executable, "-m", "pytest", "--collect-only", *map(str, paths), *options]
        done = subprocess.run(
            command, env=self._told(self.stack), cwd=REPOSITORY, check=False, stdout=subprocess.DEVNULL
        )
        return done.returncode != NO_TESTS

    def selected(self, paths: Sequence[Path], options: Sequence[str]) -> None:
        """Only the tests named, with pytest's own options."""
        bare = [path for path in paths if END_TO_END not in (path, *path.parents)]
        faults = [path for path in paths if FAULTS in (path, *path.parents)]
        journeys = [path for path in paths if path not in (*bare, *faults)]
        for path in bare:
            self.run(path.as_posix(), [tests_of(path)], options)
        if faults:
            self.faults(faults, options)
        if journeys:
            self.whole_stack()
            self.run(END_TO_END.name, journeys, options)

    def servers(self, stack: Stack | None = None) -> None:
        """Fresh PostgreSQL, RabbitMQ and Redis."""
        stack = stack or self.stack
        say("servers for tests")
        stack.down()
        shutil.rmtree(stack.home, ignore_errors=True)
        stack.up(infrastructure_only=True)

    def whole_stack(self) -> None:
        """Every service and the gateway, with a broker that has forgotten what the tests before left in it."""
        say("whole stack for journeys")
        self.stack.down()
        shutil.rmtree(self.stack.home / "rabbitmq" / "data", ignore_errors=True)
        self.stack.up()

    def run(
        self,
        name: str,
        paths: Iterable[Path],
        options: Sequence[str],
        *,
        stack: Stack | None = None,
        output: IO[bytes] | None = None,
    ) -> None:
        """One pytest process; what it says goes to `output`, and is told when it has ended, if there is another beside it."""
        if output is None:
            say(name)
        report = self.reports / f"{name.replace('/', '-')}.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *_root(name), *map(str, paths), *options]
        environment = self._told(stack or self.stack)
        with subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=output, stderr=output) as process:
            self._running.add(process)
            try:
                exit_code = process.wait()
            except BaseException:
                process.kill()
                raise
            finally:
                self._running.discard(process)
        with self._telling:
            if output is not None:
                say(name)
                print(Path(output.name).read_text(errors="replace"), end="", flush=True)
            self.tally.add(report, name, exit_code)

    def _check(self) -> None:
        say("scripts/check")
        done = subprocess.run(["scripts/check"], env=self.environment, cwd=REPOSITORY, check=False)
        if done.returncode != 0:
            self.tally.broken.append("scripts/check")

    def _told(self, stack: Stack) -> dict[str, str]:
        settings = stack.settings
        return self.environment | {
            "PYTHONPATH": str(REPOSITORY),
            "VAJ_TEST_DATABASE_ADMIN_URL": settings["VAJ_DATABASE_ADMIN_URL"],
            "VAJ_TEST_BROKER_URL": settings["VAJ_BROKER_URL"],
            "VAJ_TEST_REDIS_URL": settings["VAJ_REDIS_URL"],
            "VAJ_E2E_HOME": str(stack.home),
        }


def all_folders() -> list[Path]:
    """Every `tests` folder outside the journeys, lowest layer first."""
    first = [Path("contracts"), Path("services/chassis")]
    services = sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / "services").glob("*/"))
    owners = [*first, *(path for path in services if path not in first), Path("gateway"), Path("scripts")]
    return [owner / "tests" for owner in owners if any((REPOSITORY / owner / "tests").glob("test_*.py"))]


def _characters(folder: Path) -> int:
    """How much is written there: about as long do its tests take."""
    return sum(file.stat().st_size for file in (REPOSITORY / folder).glob("*.py"))


def _root(name: str) -> list[str]:
    """The folder `contracts` would hide the package `contracts` if pytest named its tests from the repository root."""
    return ["--rootdir=contracts"] if name.split("/")[0] == "contracts" else []


def tests_of(path: Path) -> Path:
    """The tests a path means: its `tests` folder when it has one."""
    return path / "tests" if (REPOSITORY / path / "tests").is_dir() else path


def say(text: str) -> None:
    """Announce a step."""
    print(f"\n=== {text}", flush=True)


def split(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The paths in front, and everything else for pytest."""
    paths = 0
    while paths < len(arguments) and (REPOSITORY / arguments[paths].split("::")[0]).exists():
        paths += 1
    return [Path(one) for one in arguments[:paths]], list(arguments[paths:])


def main() -> int:
    """0 when tests ran and all passed."""
    paths, options = split([argument for argument in sys.argv[1:] if argument not in (WITH_FAULTS, DEEP)])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    suite = Suite(os.environ)
    suite.reports.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        if DEEP in sys.argv:
            suite.deep(paths, options)
        else:
            suite.on_servers(paths, options, faults=WITH_FAULTS in sys.argv)
    except StackError as error:
        print(f"{error}\n{error.log_tail()}", flush=True)
        suite.tally.broken.append(f"stack ({error.part})")
    except KeyboardInterrupt:
        suite.tally.broken.append("interrupted")
    print(f"\n{suite.tally.line()}   ({time.monotonic() - began:.0f} s)", flush=True)
    return 0 if suite.tally.succeeded() else 1


if __name__ == "__main__":
    sys.exit(main())
