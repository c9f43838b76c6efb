"""Processes that decode: reading a load takes a whole core, and what else this process does must not wait for it."""

from __future__ import annotations

import asyncio
import multiprocessing
from multiprocessing.connection import Connection

from resources.catalogue.preparing import Prepared, Rows, prepare

PROCESSES = 2
TIME_S_MAX = 60.0  # for one chunk, which takes some tens of milliseconds

_SPAWN = multiprocessing.get_context("spawn")  # a forked process would have this one's threads' locks


class DecoderLost(Exception):
    """The process that had the rows died, or took too long and was ended."""


class Decoders:
    """Prepares chunks in other processes, each with a pipe of its own: what kills one is no other chunk's failure.

    They start when there is work, are kept for the next, and end with this process, however it ends.
    """

    def __init__(self, *, time_s_max: float = TIME_S_MAX) -> None:
        self.time_s_max = time_s_max
        self._room = asyncio.Semaphore(PROCESSES)
        self._idle: list[_Decoder] = []

    async def prepare(self, rows: Rows) -> Prepared:
        """The chunk; raises `DecoderLost`, or what decoding it raised."""
        async with self._room:
            decoder = self._idle.pop() if self._idle else _Decoder()
            try:
                async with asyncio.timeout(self.time_s_max):
                    answer = await asyncio.to_thread(decoder.ask, rows)
            except TimeoutError as error:
                decoder.kill()
                raise DecoderLost(f"rows took more than {self.time_s_max:g} s") from error
            except BaseException:
                decoder.kill()
                raise
            self._idle.append(decoder)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Let the processes end."""
        while self._idle:
            self._idle.pop().kill()


class _Decoder:
    """One process; dead, it is of no more use."""

    def __init__(self) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def ask(self, rows: Rows) -> Prepared | Exception:
        """The chunk, or what decoding it raised; waits as long as the process lives, so it wants a thread."""
        try:
            self._pipe.send(rows)
            answer: Prepared | Exception = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise DecoderLost("the process is gone") from error
        return answer

    def kill(self) -> None:
        """End the process; who waits for it in another thread hears of it."""
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection) -> None:
    """Answer until the parent is gone, however it went: nobody else has the other end."""
    try:
        while True:
            rows = pipe.recv()
            try:
                answer: Prepared | Exception = prepare(rows)
            except Exception as error:
                answer = error
            pipe.send(answer)
    except (EOFError, OSError, KeyboardInterrupt):
        return
