"""A mail server for tests: takes everything and keeps it in a Maildir."""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP

MESSAGE_BYTES_MAX = 1_048_576


async def serve(host: str, port: int, maildir: str) -> None:
    """Accept mail on the port until told to stop."""
    keep = Mailbox(Path(maildir))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(keep, data_size_limit=MESSAGE_BYTES_MAX, enable_SMTPUTF8=True), host, port
    )
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with server:
        await stopped.wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--maildir", required=True)
    given = parser.parse_args()
    asyncio.run(serve(given.host, given.port, given.maildir))


if __name__ == "__main__":
    main()
