"""A relay as a process of its own, to be killed or stopped: `relay_process.py DATABASE BROKER LEASE_S [PLACE]`.

With a PLACE of `chassis.crashpoints` it stops itself there, once, as with SIGSTOP.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from chassis import crashpoints
from chassis.broker import Publisher
from chassis.database import Database
from chassis.kernel import new_id
from chassis.outbox import OutboxTables, Pace, Relay


async def _relay(database_url: str, broker_url: str, lease_s: float) -> None:
    database, publisher = Database(database_url), Publisher(broker_url, name="relay-process")
    await database.open()
    relay = Relay(OutboxTables(database), publisher, owner=new_id(), pace=Pace(lease=lease_s, renew=lease_s / 5))
    await asyncio.gather(publisher.run(), relay.run())


def _stop_once_at(place: str) -> None:
    def stop(name: str) -> None:
        if name == place:
            crashpoints.install(None)
            os.kill(os.getpid(), signal.SIGSTOP)

    crashpoints.install(stop)


if __name__ == "__main__":
    _, database_url, broker_url, lease_s, *place = sys.argv
    if place:
        _stop_once_at(place[0])
    asyncio.run(_relay(database_url, broker_url, float(lease_s)))
