"""The commands up, down, status and logs; `scripts/up` and its siblings call this."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts.stack.failure import StackError
from scripts.stack.instance import SERVICES, PortBusy
from scripts.stack.lifecycle import Stack
from scripts.stack.programs import exists
from scripts.stack.supervision import RUNNING, State

FAILED, UNAVAILABLE, NOT_RUNNING = 1, 2, 3
console = Console(highlight=False, soft_wrap=True)


def announce(part: str, seconds: float, detail: str) -> None:
    """One line per part that became ready."""
    console.print(f"[green]ready[/] {part:<14} {seconds:5.1f} s   {detail}")


def up(stack: Stack, *, infrastructure_only: bool, services: Sequence[str] | None, containers: bool) -> int:
    """Start what is not running; 0 when everything is ready."""
    if containers:
        console.print("containers are not available yet: they come with the deployment; scripts/up runs natively")
        return UNAVAILABLE
    ran_before = bool(stack.states())
    began = time.monotonic()
    try:
        stack.up(infrastructure_only=infrastructure_only, services=services)
    except PortBusy as error:
        console.print(f"[red]up:[/] {error}")
        return FAILED
    except StackError as error:
        console.print(f"[red]failed[/] {error}")
        console.print(error.log_tail(), markup=False)
        if not ran_before:
            stack.down()
        return FAILED
    except KeyboardInterrupt:
        stack.down()
        return FAILED
    _greet(stack, infrastructure_only=infrastructure_only, seconds=time.monotonic() - began)
    return 0


def _greet(stack: Stack, *, infrastructure_only: bool, seconds: float) -> None:
    for service in () if infrastructure_only else SERVICES:
        if not exists(service):
            console.print(f"[yellow]left out[/] {service}: it has no __main__.py yet")
    where = "servers only" if infrastructure_only else stack.settings["VAJ_PUBLIC_URL"]
    console.print(f"up: {where}   ({seconds:.1f} s; settings in {stack.home / 'stack.env'})")


def down(stack: Stack) -> int:
    """Stop everything; 0 also when nothing ran."""
    swept = stack.down()
    if swept:
        console.print(f"[yellow]killed[/] {len(swept)} processes that were left without their supervisor")
    console.print("down")
    return 0


def status(stack: Stack) -> int:
    """Show every program; 0 when all run, 3 when not."""
    states = stack.states()
    if not states:
        console.print("down")
        return NOT_RUNNING
    table = Table("part", "state", "pid", "up", "memory", box=None, pad_edge=False)
    for state in states.values():
        table.add_row(*_row(state))
    console.print(table)
    console.print(
        f"{stack.settings['VAJ_PUBLIC_URL']}   memory {sum(map(_memory_mib, states.values())):.0f} MiB in all"
    )
    return 0 if all(state.state == RUNNING for state in states.values()) else NOT_RUNNING


def _row(state: State) -> tuple[str, str, str, str, str]:
    if state.state != RUNNING:
        return state.name, f"[red]{state.state.lower()}[/]", "", "", state.problem
    return state.name, "running", str(state.pid), f"{state.since_s} s", f"{_memory_mib(state):.0f} MiB"


def _memory_mib(state: State) -> float:
    """What the program and its children hold for themselves, shared pages counted once in proportion."""
    return sum(_proportional_kib(pid) for pid in _family(state.pid)) / 1024 if state.pid else 0.0


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(int(child)))]


def _proportional_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def logs(stack: Stack, names: Sequence[str], *, follow: bool) -> int:
    """Show the end of the logs, all or some; with `-f` go on showing."""
    folder = stack.home / "logs"
    files = [folder / f"{name}.log" for name in names] or sorted(folder.glob("*.log"))
    missing = [file.stem for file in files if not file.exists()]
    if files and not missing:
        sys.stdout.flush()
        tail = shutil.which("tail") or "/usr/bin/tail"
        os.execv(tail, ["tail", "-n", "100" if names else "20", *(["-F"] if follow else []), *map(str, files)])  # noqa: S606
    known = ", ".join(sorted(file.stem for file in folder.glob("*.log"))) or "none"
    console.print(f"no log of {', '.join(missing) or 'anything'}; there are: {known}")
    return FAILED


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start the stack and return when it is ready")
    start.add_argument("--infrastructure", action="store_true", help="PostgreSQL, RabbitMQ and Redis only")
    start.add_argument("--services", type=lambda given: given.split(","), help="only these, separated by commas")
    start.add_argument("--containers", action="store_true", help="run in containers instead of natively")
    commands.add_parser("down", help="stop everything")
    commands.add_parser("status", help="show every part")
    shown = commands.add_parser("logs", help="show logs")
    shown.add_argument("names", nargs="*", metavar="NAME", help="part, as in status; or access, NAME-migrate")
    shown.add_argument("-f", "--follow", action="store_true")
    return parser.parse_args()


def main() -> int:
    """Run the command given; the exit code says how it went."""
    given = _arguments()
    try:
        stack = Stack(announce=announce)
    except StackError as error:
        console.print(f"[red]failed[/] {error}")
        return FAILED
    if given.command == "up":
        return up(
            stack,
            infrastructure_only=given.infrastructure,
            services=given.services,
            containers=given.containers,
        )
    if given.command == "down":
        return down(stack)
    if given.command == "status":
        return status(stack)
    return logs(stack, given.names, follow=given.follow)


if __name__ == "__main__":
    sys.exit(main())
