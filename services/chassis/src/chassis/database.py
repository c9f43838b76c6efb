"""PostgreSQL: SQLAlchemy Core describes, asyncpg runs; reads go at once, writes leave together in one statement.

This is the only module that commits.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import asyncpg
import msgspec
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.sql import ClauseElement

from chassis.crashpoints import reached
from chassis.kernel import ConcurrentUpdate, DomainError

COMMAND_TIMEOUT_S = 15  # a statement slower than this is a defect, not a wait
IDLE_IN_TRANSACTION_S = 20  # then the server ends it: of a machine that is gone, locks would else stay for hours
ACQUIRE_TIMEOUT_S = 5  # longer than this for a connection means overload: answer 503 instead of queueing
STATEMENTS_CACHED = 500  # each use case has one combined statement; a service has well under a hundred shapes

Row: TypeAlias = asyncpg.Record
T = TypeVar("T")
_SESSION = {"application_name": "vouajudar", "jit": "off", "timezone": "UTC"}
_DIALECT = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]

# It answers and has no room: a small statement may well pass.
FULL_ERRORS: tuple[type[Exception], ...] = (asyncpg.InsufficientResourcesError,)  # connections, memory, disk
TRANSIENT_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    *FULL_ERRORS,
    asyncpg.PostgresSystemError,
    asyncpg.QueryCanceledError,
    OSError,
    TimeoutError,
)
UNAVAILABLE_ERRORS: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was cut while it spoke
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    *FULL_ERRORS,
    asyncpg.PostgresSystemError,
    OSError,
    TimeoutError,
)


class Runner(Protocol):
    """What a pool and a connection have in common."""

    async def fetch(self, query: str, *args: Any) -> list[Row]: ...
    async def fetchrow(self, query: str, *args: Any) -> Row | None: ...
    async def execute(self, query: str, *args: Any) -> str: ...
    async def executemany(self, command: str, args: Sequence[Sequence[Any]]) -> None: ...


@dataclass(frozen=True, slots=True)
class Prepared:
    """A Core statement compiled once; `bindparam` names are given as keywords when it is fetched."""

    sql: str
    names: tuple[str, ...]
    fixed: Mapping[str, Any]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The positional arguments."""
        return [values[name] if name in values else self.fixed[name] for name in self.names]


def prepare(statement: ClauseElement) -> Prepared:
    """Compile a Core statement whose shape is used again and again; compiling costs more than running it."""
    result = cast("Any", statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True}))
    return Prepared(str(result), tuple(result.positiontup or ()), dict(result.params))


def compiled(query: Query, args: Sequence[Any], values: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
    """SQL text with `$n` and its arguments; text passes as it is, a Core statement brings its own arguments."""
    if isinstance(query, str):
        return query, args
    if isinstance(query, Prepared):
        return query.sql, query.arguments(values)
    result = cast("Any", query.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True}))
    return str(result), [result.params[name] for name in result.positiontup or ()]


Query = str | ClauseElement | Prepared


@lru_cache(maxsize=4096)
def _renumbered(sql: str, offset: int) -> str:
    return re.sub(r"\$(\d+)", lambda m: f"${int(m[1]) + offset}", sql)


@lru_cache(maxsize=1024)
def _combined(pieces: tuple[tuple[str, int], ...]) -> str:
    """Many data-modifying statements as one: each becomes a CTE, all see the same snapshot, all or none happen."""
    parts, offset = [], 0
    for index, (sql, arity) in enumerate(pieces):
        parts.append(f"w{index} AS ({_renumbered(sql, offset)})")
        offset += arity
    return f"WITH {', '.join(parts)} SELECT 1"


class Transaction:
    """Reads at once, writes queued until the end, then sent as one statement: one round trip, one commit.

    Optimistic at first: reads take no lock and a clash shows as `ConcurrentUpdate` when the writes are sent.
    With `locking` it is a real transaction and repositories lock the rows they load. Queued writes must not
    touch the same row twice, and see nothing of each other.
    """

    def __init__(
        self, runner: Runner, constraints: Mapping[str, type[DomainError]], *, locking: bool,
        hung: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._runner = runner
        self._constraints = constraints
        self._hung = hung
        self._writes: list[tuple[str, tuple[Any, ...]]] = []
        self._ended: list[tuple[str, tuple[Any, ...]]] = []
        self._failure: Exception | None = None
        self.locking = locking
        self.hints: set[str] = set()

    async def fetch(self, query: Query, *args: Any, **values: Any) -> list[Row]:
        """All rows of a bounded query."""
        await self._send_ended()
        sql, arguments = compiled(query, args, values)
        return await self._answer(self._runner.fetch(sql, *arguments))

    async def fetchrow(self, query: Query, *args: Any, **values: Any) -> Row | None:
        """The first row, or None."""
        await self._send_ended()
        sql, arguments = compiled(query, args, values)
        return await self._answer(self._runner.fetchrow(sql, *arguments))

    async def fetchval(self, query: Query, *args: Any, **values: Any) -> Any:
        """The first column of the first row, or None."""
        row = await self.fetchrow(query, *args, **values)
        return None if row is None else row[0]

    async def copy(self, table: str, columns: Sequence[str], rows: bytes) -> None:
        """Send rows in COPY's text format, at once. Only inside a real transaction."""
        await self._send_ended()
        connection = cast("asyncpg.Connection[Row]", self._runner)
        # Neither bytes, which asyncpg takes for a path, nor a file, which costs it a class that stays until it is collected.
        source = cast("Any", memoryview(rows))
        await self._answer(connection.copy_to_table(table, source=source, columns=columns, timeout=COMMAND_TIMEOUT_S))

    def write(self, query: Query, *args: Any) -> None:
        """Queue a data-modifying statement; it is sent with all others when the transaction ends."""
        sql, arguments = compiled(query, args, {})
        self._writes.append((sql, tuple(arguments)))

    async def flush(self) -> None:
        """Send what is queued, now."""
        self.end_step()
        await self._send_ended()

    def end_step(self) -> None:
        """What is queued belongs together as one statement; it leaves, in order, before the next read or with the end.

        Steps of one shape that follow each other travel in one round trip. Only inside a real transaction.
        """
        if self._writes:
            sql = _combined(tuple((text, len(args)) for text, args in self._writes))
            self._ended.append((sql, tuple(value for _, args in self._writes for value in args)))
            self._writes = []

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """What is done inside happens as a whole or, when it raises, not at all. Only inside a real transaction."""
        await self.flush()
        hints = set(self.hints)
        await self._runner.execute("SAVEPOINT inner_work")
        try:
            yield
            await self.flush()
        except Exception:
            self._writes, self._ended, self._failure, self.hints = [], [], None, hints
            await self._runner.execute("ROLLBACK TO SAVEPOINT inner_work")
            raise
        await self._runner.execute("RELEASE SAVEPOINT inner_work")

    async def _send_ended(self) -> None:
        if self._failure is not None:
            raise self._failure
        if not self._ended:
            return
        ended, self._ended = self._ended, []
        try:
            await self._send(ended)
        except Exception as error:
            if self.locking:  # PostgreSQL would turn the commit into a silent rollback, whoever caught this
                self._failure = error
            raise

    async def _send(self, ended: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
        try:
            for sql, steps in groupby(ended, key=itemgetter(0)):
                arguments = [args for _, args in steps]
                if len(arguments) == 1:
                    await self._answer(self._runner.execute(sql, *arguments[0]))
                else:
                    await self._answer(self._runner.executemany(sql, arguments))
        except asyncpg.IntegrityConstraintViolationError as error:
            raise self._meaning(error) from error

    async def _answer(self, asked: Awaitable[T]) -> T:
        try:
            return await asked
        except asyncpg.DeadlockDetectedError as error:  # an optimistic command met one that locks: it runs again
            raise ConcurrentUpdate from error
        except TimeoutError:
            await self._hung()
            raise

    def _meaning(self, error: asyncpg.IntegrityConstraintViolationError) -> Exception:
        name = getattr(error, "constraint_name", None) or ""
        kind = self._constraints.get(name)
        return error if kind is None else kind()


def under_locks(tx: Transaction) -> None:
    """An act that changes and counts in one statement needs a real transaction: the command runs again in one."""
    if not tx.locking:
        raise ConcurrentUpdate


class Database:
    """The pool of one service's database and the only way to commit."""

    def __init__(
        self, url: str, *, pool_max: int = 12, constraints: Mapping[str, type[DomainError]] | None = None,
        search_path: str = "public",
    ) -> None:  # fmt: skip
        self._url = url
        self._search_path = search_path
        self._pool_max = pool_max
        self._constraints: dict[str, type[DomainError]] = {"events_pkey": ConcurrentUpdate, **(constraints or {})}
        self._pool: asyncpg.Pool[Row] | None = None
        self._listeners: dict[str, list[Callable[[], None]]] = {}

    @property
    def url(self) -> str:
        """The address, secrets included: never log it."""
        return self._url

    def beside(self, search_path: str, *, pool_max: int) -> Database:
        """The same database through other connections, on which names are looked up in these schemas first; not open yet."""
        return Database(self._url, pool_max=pool_max, constraints=self._constraints, search_path=search_path)

    @property
    def pool(self) -> asyncpg.Pool[Row]:
        """The open pool."""
        if self._pool is None:
            raise RuntimeError("the database is not open")
        return self._pool

    async def open(self) -> None:
        """Connect; raises what asyncpg raises when the server is not there."""
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=1,
            max_size=self._pool_max,
            command_timeout=COMMAND_TIMEOUT_S,
            statement_cache_size=STATEMENTS_CACHED,
            init=_register_codecs,
            reset=_keep,
            server_settings={
                **_SESSION,
                "search_path": self._search_path,
                "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s",
            },
        )

    async def close(self) -> None:
        """Give the connections back; those still busy after 5 s are cut."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        pool.terminate()

    def reading(self) -> Transaction:
        """For queries: nothing queued on it is ever sent."""
        return self._on(self.pool, locking=False)

    @asynccontextmanager
    async def command(self) -> AsyncIterator[Transaction]:
        """Optimistic: reads without locks, then every queued write in one atomic statement at the end."""
        transaction = self._on(self.pool, locking=False)
        yield transaction
        await transaction.flush()
        reached("command.committed")
        self._wake(transaction.hints)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A real transaction on one connection, for several statements that belong together."""
        async with self.pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            try:
                async with connection.transaction():
                    transaction = self._on(connection, locking=True)
                    yield transaction
                    await transaction.flush()
            except TimeoutError:  # of the beginning or the end
                await self.pool.expire_connections()
                raise
        self._wake(transaction.hints)

    def _on(self, runner: object, *, locking: bool) -> Transaction:
        """One that hangs may be on a link that died in silence, and so may be the others: no connection is used again."""
        return Transaction(
            cast("Runner", runner), self._constraints, locking=locking, hung=self.pool.expire_connections
        )

    def listen(self, hint: str, wake: Callable[[], None]) -> None:
        """Call `wake` after each commit in this process whose transaction carries `hint`; polling stays the truth."""
        self._listeners.setdefault(hint, []).append(wake)

    def _wake(self, hints: set[str]) -> None:
        for hint in hints:
            for wake in self._listeners.get(hint, ()):
                wake()


async def _keep(_: Any) -> None:
    """Sessions hold no state here, so a released connection needs no reset query."""


async def _register_codecs(connection: asyncpg.Connection[Row]) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
        format="text",
    )
