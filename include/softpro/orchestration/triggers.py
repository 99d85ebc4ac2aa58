"""Start the DAGs for webhooks and write-back through assets whose triggers listen to PostgreSQL.

A trigger only wakes its DAG. A missed or superfluous event loses nothing, because the work stays in its table.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from airflow.sdk import Asset, AssetWatcher
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from psycopg.rows import DictRow
from psycopg.sql import SQL, Identifier

from softpro.db import inbox, locks, outbox
from softpro.db.database import AsyncConnection, Database
from softpro.db.locks import Lock
from softpro.errors import SoftProError
from softpro.orchestration.hook import database_from_environment
from softpro.writeback import push_attempts

SWEEP_SECONDS = 30.0
"""Maximum seconds between two checks, with or without notifications."""

BATCH_SECONDS = 0.3
"""Seconds to wait after an event, so that one run processes everything that arrives together."""

QUEUE_BUSY_SECONDS = 0.5
"""Seconds between two checks while another process works on the queue."""

RUN_START_TIMEOUT_SECONDS = 5.0
"""Seconds that the DAG may take to begin before the same event is emitted again."""

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 30.0

SELECT_FIRST_EVENT = """
select coalesce(e.next_retry_at, e.received_at)::text as what,
       extract(epoch from coalesce(e.next_retry_at, e.received_at) - clock_timestamp())::float8 as due_in
from softpro.webhook_events e
join softpro.integrations i on i.id = e.integration_id
where e.status in ('PENDING', 'RETRYING') and i.status = 'CONNECTED'
order by coalesce(e.next_retry_at, e.received_at)
limit 1
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WatchedQueue:
    """A queue that a trigger watches.

    Attributes:
        name: The plural name of its entries, for log lines.
        queue: The lock that a process holds while it works on the queue.
        channel: The PostgreSQL channel that announces new entries.
        first_due: A query for the first entry; no row if none waits. `due_in` is the number of seconds until it is due,
            negative once it is due. `what` identifies the waiting work.
        max_repeat_seconds: Maximum pause before an event for the same `what` is emitted again. The first pause is
            RUN_START_TIMEOUT_SECONDS, and each one is twice as long.
    """

    name: LiteralString
    queue: Lock
    channel: str
    first_due: LiteralString
    max_repeat_seconds: float


WEBHOOK_EVENTS = WatchedQueue(
    "webhook events", Lock.INBOX, inbox.CHANNEL, SELECT_FIRST_EVENT, RUN_START_TIMEOUT_SECONDS
)

# An edit that is due right after a run could not be sent, and has no time for its next attempt.
EDITS = WatchedQueue("edits", Lock.OUTBOX, outbox.CHANNEL, push_attempts.SELECT_FIRST_DUE, 60.0)


class InboxTrigger(BaseEventTrigger):
    """A trigger that emits an event when webhook events are due and no process works on them."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, as Airflow requires."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncGenerator[TriggerEvent]:
        """Yield an event whenever work is due, forever."""
        async for event in _trigger_events(WEBHOOK_EVENTS):
            yield event


class OutboxTrigger(BaseEventTrigger):
    """A trigger that emits an event when edits are due and no process sends them."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, as Airflow requires."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncGenerator[TriggerEvent]:
        """Yield an event whenever work is due, forever."""
        async for event in _trigger_events(EDITS):
            yield event


# These are not in `assets`, which every DAG imports, because this module takes longer to import.
WEBHOOKS = Asset(
    name="softpro.webhooks",
    uri="softpro://webhooks",
    group="softpro",
    watchers=[AssetWatcher(name="inbox", trigger=InboxTrigger())],  # type: ignore[no-untyped-call]
)
OUTBOX = Asset(
    name="softpro.outbox",
    uri="softpro://outbox",
    group="softpro",
    watchers=[AssetWatcher(name="outbox", trigger=OutboxTrigger())],  # type: ignore[no-untyped-call]
)


async def _trigger_events(watched: WatchedQueue) -> AsyncGenerator[TriggerEvent]:
    """Yield the events of a queue forever. While the database is unavailable, wait ever longer, and log it once."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            async with await _listen(watched) as connection:
                if pause > FIRST_PAUSE_SECONDS:
                    log.info("Listening for %s again", watched.name)
                pause = FIRST_PAUSE_SECONDS
                async with aclosing(_due_moments(connection, watched)) as moments:
                    async for seconds in moments:
                        yield TriggerEvent({"due_for_seconds": seconds})  # type: ignore[no-untyped-call]
        except (psycopg.Error, SoftProError, OSError) as failed:
            if pause == FIRST_PAUSE_SECONDS:
                log.warning("Cannot listen for %s, and retry: %s", watched.name, failed)
            await asyncio.sleep(pause)
            pause = min(MAX_PAUSE_SECONDS, 2 * pause)


async def _listen(watched: WatchedQueue) -> AsyncConnection:
    """Return a connection that receives notifications from now on. Earlier entries must be queried."""
    found = await asyncio.to_thread(_database)
    # Without a timeout, a network that drops packets would block the connection forever.
    connection = await found.open_async(
        application_name=f"softpro-{watched.queue.name.lower()}", tcp_user_timeout=10_000
    )
    try:
        await connection.execute(SQL("listen {}").format(Identifier(watched.channel)))
        await _row(connection, watched.first_due)  # fails here, not later, if the tables do not exist
    except BaseException:
        await connection.close()
        raise
    return connection


def _database() -> Database:
    """Return the database, once its login proved to be no superuser."""
    found = database_from_environment()
    found.require_plain_login()
    return found


async def _due_moments(connection: AsyncConnection, watched: WatchedQueue) -> AsyncGenerator[float]:
    """Yield, whenever an entry is due and no process works on the queue, for how many seconds it has been due."""
    loop = asyncio.get_running_loop()
    reported: str | None = None
    reported_at = pause = 0.0
    while True:
        worked_on = await _row(connection, locks.SELECT_IS_TAKEN, [watched.queue.value])
        if worked_on and worked_on["taken"]:
            await asyncio.sleep(QUEUE_BUSY_SECONDS)
            continue
        first = await _row(connection, watched.first_due)
        if first is None or first["due_in"] > 0:
            await _wait_for_notification(connection, min(SWEEP_SECONDS, first["due_in"] if first else SWEEP_SECONDS))
        elif first["what"] != reported or loop.time() - reported_at >= pause:
            pause = (
                min(watched.max_repeat_seconds, 2 * pause) if first["what"] == reported else RUN_START_TIMEOUT_SECONDS
            )
            reported, reported_at = first["what"], loop.time()
            yield -first["due_in"]
        else:
            await _wait_for_notification(connection, reported_at + pause - loop.time())
        await asyncio.sleep(BATCH_SECONDS)  # collects entries that arrive together, or lets the started run begin


async def _wait_for_notification(connection: AsyncConnection, seconds: float) -> None:
    """Wait for a notification, at most for `seconds`."""
    async with aclosing(connection.notifies(timeout=seconds, stop_after=1)) as notices:
        async for _ in notices:
            pass


async def _row(connection: AsyncConnection, query: Any, parameters: list[Any] | None = None) -> DictRow | None:
    return await (await connection.execute(query, parameters)).fetchone()
