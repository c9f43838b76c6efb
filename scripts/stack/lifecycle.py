"""Up and down: everything in parallel as far as one thing does not need another, and only ready is up."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from scripts.stack import gateway, postgres, probes, rabbitmq, redis
from scripts.stack.environment import base_environment, service_environment, settings, write_settings
from scripts.stack.failure import PREPARATION_FAILED, StackError
from scripts.stack.instance import REPOSITORY, Instance, home_from, open_instance
from scripts.stack.programs import (
    EDGE,
    INFRASTRUCTURE,
    STOP_ORDER,
    Program,
    all_programs,
    existing_services,
    log_of,
)
from scripts.stack.supervision import BACKOFF, FATAL, RUNNING, State, Supervisor, sweep, wait_until

READY_S = 90.0
ROUTED_S = 15.0
MIGRATION_S_MAX = 120.0
# A program that falls over again and again for this long will not come up.
FALLING_S_MAX = 8.0

Announce = Callable[[str, float, str], None]


def _silently(_part: str, _seconds: float, _detail: str) -> None:
    """Announce nothing."""


class Stack:
    """One instance of the stack, by its folder; methods may be called from anywhere, by anybody, any number of times."""

    def __init__(
        self,
        home: Path | str | None = None,
        *,
        caller: Mapping[str, str] | None = None,
        announce: Announce = _silently,
    ) -> None:
        self.caller = dict(os.environ if caller is None else caller)
        self.home = Path(home).resolve() if home is not None else home_from(self.caller)
        if "%" in str(self.home) + str(REPOSITORY):
            raise StackError(
                "stack", "the path of the checkout must not contain %, which the supervisor gives a meaning"
            )
        self.announce = announce

    @property
    def instance(self) -> Instance:
        """Folder, ports and secrets as they are now."""
        return open_instance(self.home, self.caller, starting=False)

    @property
    def ports(self) -> Mapping[str, int]:
        """Ports by name: `public`, `postgres`, `amqp`, `batches_api`, `batches_ops`, …"""
        return self.instance.ports

    @property
    def settings(self) -> dict[str, str]:
        """What `stack.env` says: addresses and credentials by `VAJ_…` name."""
        return settings(self.instance)

    def states(self) -> dict[str, State]:
        """The programs and how they are; empty when the instance is down."""
        return Supervisor(self.instance).states() if (self.home / "ports.json").exists() else {}

    def is_up(self, names: Iterable[str] | None = None) -> bool:
        """Whether these programs (by default all that exist) run and are ready."""
        states = self.states()
        if not states:
            return False
        programs = all_programs(self.instance, self.caller)
        wanted = [programs[name] for name in (names or programs)]
        return all(one.name in states and states[one.name].state == RUNNING and one.ready() for one in wanted)

    def up(self, *, infrastructure_only: bool = False, services: Sequence[str] | None = None) -> None:
        """Start what is not running and return when all of it is ready; `services` limits it to some of them.

        Raises StackError naming the part that failed, PortBusy when the public port is taken.
        """
        with self._alone():
            chosen = () if infrastructure_only else existing_services(services)
            wanted = (*INFRASTRUCTURE, *(() if infrastructure_only else (*EDGE, *chosen)))
            if self.is_up(wanted):
                return
            instance = self._prepare()
            programs = all_programs(instance, self.caller)
            supervisor = Supervisor(instance)
            supervisor.start(programs.values(), self.caller)
            self._start(instance, supervisor, programs, wanted, chosen)

    def down(self) -> list[int]:
        """Stop everything in order; returns the ids of processes that had to be swept up."""
        if not (self.home / "ports.json").exists():
            return []
        with self._alone():
            instance = self.instance
            supervisor = Supervisor(instance)
            for names in STOP_ORDER:
                supervisor.stop(names)
            supervisor.shut_down()
            swept = sweep(self.home)
            instance.socket.unlink(missing_ok=True)
            return swept

    def start(self, *names: str) -> None:
        """Start programs and wait until they are ready."""
        instance = self.instance
        programs = all_programs(instance, self.caller)
        supervisor = Supervisor(instance)
        for name in names:
            supervisor.launch(name)
        for name in names:
            self._await(supervisor, programs[name], time.monotonic())

    def stop(self, *names: str) -> None:
        """Stop programs and wait until they are gone; they stay down until started."""
        Supervisor(self.instance).stop(names)

    def restart(self, *names: str) -> None:
        """Stop programs in an orderly way, start them, wait until they are ready."""
        self.stop(*names)
        self.start(*names)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Kill a program as a crash would; the supervisor starts it again. Returns the id it had."""
        return Supervisor(self.instance).signal(name, number)

    def await_ready(self, *names: str) -> None:
        """Wait until programs are ready (again)."""
        instance = self.instance
        programs = all_programs(instance, self.caller)
        for name in names:
            self._await(Supervisor(instance), programs[name], time.monotonic())

    def _prepare(self) -> Instance:
        running = bool(self.states())
        if not running:
            sweep(self.home)  # whatever outlived a supervisor that was killed still holds data folders and ports
        instance = open_instance(self.home, self.caller, starting=not running)
        (instance.home / "objects").mkdir(exist_ok=True)
        rabbitmq.prepare(instance)
        redis.prepare(instance)
        gateway.prepare(instance, self.caller)
        write_settings(instance)
        return instance

    def _start(
        self,
        instance: Instance,
        supervisor: Supervisor,
        programs: Mapping[str, Program],
        wanted: Sequence[str],
        services: Sequence[str],
    ) -> None:
        began = time.monotonic()

        def launch(name: str) -> None:
            supervisor.launch(name)
            self._await(supervisor, programs[name], began)

        def launch_postgres() -> None:
            postgres.create_cluster(instance)
            launch("postgres")
            postgres.provision(instance)

        def launch_broker() -> None:
            launch("epmd")
            launch("rabbitmq")

        with ThreadPoolExecutor(max_workers=len(wanted) + 1) as pool:
            database = pool.submit(launch_postgres)
            servers = [pool.submit(launch_broker), pool.submit(launch, "redis")]
            edge = [pool.submit(launch, name) for name in EDGE if name in wanted]
            database.result()
            # A fact reaches the queues that exist when it is published: all are declared before any service runs.
            prepared = pool.submit(self._prepare_services, instance, services)
            _join([*servers, prepared])
            _join([*edge, *(pool.submit(launch, name) for name in services)])
        for name in services:
            self._await_route(instance, name)

    def _await_route(self, instance: Instance, service: str) -> None:
        """The gateway looks at its services about once a second; until it has, it answers 503 for them."""
        host = "127.0.0.1" if instance.public_host == "0.0.0.0" else instance.public_host  # noqa: S104
        port = instance.ports["public"]
        if not wait_until(lambda: probes.http_ok(port, f"/openapi/{service}.json", host=host), ROUTED_S):
            raise StackError("gateway", f"it does not reach {service}", log=log_of(instance, "gateway"))

    def _prepare_services(self, instance: Instance, services: Sequence[str]) -> None:
        log = instance.logs / "migrate.log"
        told = {service: service_environment(instance, service, self.caller) for service in services}
        with log.open("wb") as output:
            done = subprocess.run(
                [sys.executable, "-m", "scripts.stack.preparation"],
                input=json.dumps(told).encode(),
                env=base_environment(instance, self.caller),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                timeout=MIGRATION_S_MAX,
                check=False,
            )
        if done.returncode != 0:
            failed = done.returncode - PREPARATION_FAILED
            raise StackError(
                services[failed] if 0 <= failed < len(services) else "services", "its migration failed", log=log
            )

    def _await(self, supervisor: Supervisor, program: Program, began: float) -> None:
        falling_since: float | None = None

        def settled() -> bool:
            nonlocal falling_since
            if program.ready():
                return True
            state = supervisor.states().get(program.name)
            if state is None or state.state == FATAL:
                falling_since = -FALLING_S_MAX
            elif state.state == BACKOFF and falling_since is None:
                falling_since = time.monotonic()
            return falling_since is not None and time.monotonic() - falling_since > FALLING_S_MAX

        log = log_of(supervisor.instance, program.name)
        if not wait_until(settled, READY_S):
            raise StackError(program.name, f"not ready within {READY_S:.0f} s", log=log)
        if not program.ready():
            raise StackError(program.name, "it does not stay up", log=log)
        self.announce(program.name, time.monotonic() - began, program.address)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one command at a time changes an instance."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "stack.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _join(futures: Iterable[Future[None]]) -> None:
    for future in futures:
        future.result()
