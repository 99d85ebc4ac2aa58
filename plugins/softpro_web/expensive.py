"""Run expensive work for a request: few at once, within a deadline, and no longer than the client waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import TypeVar
from uuid import uuid4

from fastapi import Request

from softpro.db.database import Database
from softpro.errors import TooSlow
from softpro_web.database import expensive_database, web_database
from softpro_web.disconnect import leaving
from softpro_web.limiters import Places
from softpro_web.threads import EXPENSIVE, in_thread

DEADLINE_SECONDS = 30.0
POLL_SECONDS = 0.25
NAME = "softpro web"
END_SESSIONS = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s"

Result = TypeVar("Result")
log = logging.getLogger(__name__)
_places = Places(total=int(EXPENSIVE.total_tokens), each=1)


async def run_expensive(request: Request, user: str, work: Callable[[Database, Event], Result]) -> Result:
    """Return the result of the work. It gets a database, and an event that is set once it has to end.

    The sessions of the work are ended too, so that a statement ends at once.

    Raises:
        Busy: The user has such work running, or the server does as much as it allows.
        TooSlow: The work took longer than `DEADLINE_SECONDS`.
    """
    with _places.take(user):
        name, stop = f"{NAME} {uuid4()}", Event()
        database = await in_thread(expensive_database, name)
        running = asyncio.ensure_future(in_thread(work, database, stop, limiter=EXPENSIVE))
        try:
            async with leaving(request) as gone:
                done, _ = await asyncio.wait(
                    {running, gone}, timeout=DEADLINE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
        except asyncio.CancelledError:  # the server stops
            stop.set()
            raise
        late = not done
        if running.done():
            return running.result()
        log.info("expensive request stopped", extra={"late": late, "user_name": user})
        while not running.done():
            stop.set()
            await in_thread(partial(_end_sessions, name))
            await asyncio.wait({running}, timeout=POLL_SECONDS)
        if late and running.exception() is not None:
            raise TooSlow(
                f"This took longer than {DEADLINE_SECONDS:.0f} s and was stopped: "
                "choose fewer records, or simpler rules and patterns"
            )
        return running.result()


def _end_sessions(name: str) -> None:
    with web_database().connect() as connection:
        connection.execute(END_SESSIONS, [name])
