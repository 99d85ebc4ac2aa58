"""What starts the DAGs for webhooks and write-back: assets whose triggers listen to PostgreSQL, and speak when there is
something to do.

They only wake a DAG. Nothing is lost where one says too much, too little, or is away: what is to do stays in its table.
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
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg.sql import SQL, Identifier

from softpro.db import inbox, locks, outbox
from softpro.db.locks import Lock
from softpro.errors import SoftProError
from softpro.orchestration.hook import database_from_environment
from softpro.writeback import push_attempts

SWEEP_SECONDS = 30.0
"""At most between two looks, whatever is notified."""

BATCH_SECONDS = 0.3
"""What comes meanwhile is worked off by the same run."""

QUEUE_BUSY_SECONDS = 0.5
"""Between two looks while somebody is at work."""

RUN_START_TIMEOUT_SECONDS = 5.0
"""So long the DAG may take to begin, before it is told again of the same."""

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

Connection = psycopg.AsyncConnection[DictRow]


@dataclass(frozen=True)
class WatchedQueue:
    """A queue, and what to look at. `first_due` yields no row where nothing waits, else `due_in`, in how many seconds
    the first may be worked off (below 0: for so long it has been due), and `what` waits: where that is the same as
    before, exactly, the DAG is told again only after a while, at first PATIENCE_SECONDS and at last `longest`."""

    name: LiteralString
    queue: Lock
    channel: str
    first_due: LiteralString
    longest: float


WEBHOOK_EVENTS = WatchedQueue(
    "webhook events", Lock.INBOX, inbox.CHANNEL, SELECT_FIRST_EVENT, RUN_START_TIMEOUT_SECONDS
)

# What is due although the DAG has just run could not be sent, and does not say when it can be.
EDITS = WatchedQueue("edits", Lock.OUTBOX, outbox.CHANNEL, push_attempts.SELECT_FIRST_DUE, 60.0)


class InboxTrigger(BaseEventTrigger):
    """Speaks when webhook events are due and nobody works on them."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncGenerator[TriggerEvent]:
        """Runs for good."""
        async for event in _trigger_events(WEBHOOK_EVENTS):
            yield event


class OutboxTrigger(BaseEventTrigger):
    """Speaks when edits may be sent and nobody sends them."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncGenerator[TriggerEvent]:
        """Runs for good."""
        async for event in _trigger_events(EDITS):
            yield event


# Not in `assets`, which every DAG imports: this takes longer.
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
    """Runs for good: where the database is away it waits, ever longer, and says so once."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            async with await _listen(watched) as connection:
                if pause > FIRST_PAUSE_SECONDS:
                    log.info("The %s are listened for again", watched.name)
                pause = FIRST_PAUSE_SECONDS
                async with aclosing(_due_moments(connection, watched)) as moments:
                    async for seconds in moments:
                        yield TriggerEvent({"due_for_seconds": seconds})  # type: ignore[no-untyped-call]
        except (psycopg.Error, SoftProError, OSError) as failed:
            if pause == FIRST_PAUSE_SECONDS:
                log.warning("The %s can't be listened for, and it is tried again: %s", watched.name, failed)
            await asyncio.sleep(pause)
            pause = min(MAX_PAUSE_SECONDS, 2 * pause)


async def _listen(watched: WatchedQueue) -> Connection:
    """A connection that is told of what comes from now on: what came before has to be looked for."""
    found = await asyncio.to_thread(database_from_environment)
    # Where the network swallows what is sent, an answer would be waited for without end.
    conninfo = make_conninfo(
        found.conninfo, application_name=f"softpro-{watched.queue.name.lower()}", tcp_user_timeout=10_000
    )
    connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, row_factory=dict_row)
    try:
        await connection.execute(SQL("listen {}").format(Identifier(watched.channel)))
        await _row(connection, watched.first_due)  # raises here, not later, where the tables are not there
    except BaseException:
        await connection.close()
        raise
    return connection


async def _due_moments(connection: Connection, watched: WatchedQueue) -> AsyncGenerator[float]:
    """Whenever something is due and nobody works on it: for how many seconds the first of it has been."""
    loop = asyncio.get_running_loop()
    told_of: str | None = None
    told_at = patience = 0.0
    while True:
        worked_on = await _row(connection, locks.SELECT_IS_TAKEN, [locks.key(watched.queue)])
        if worked_on and worked_on["taken"]:
            await asyncio.sleep(QUEUE_BUSY_SECONDS)
            continue
        first = await _row(connection, watched.first_due)
        if first is None or first["due_in"] > 0:
            await _wait_for_notification(connection, min(SWEEP_SECONDS, first["due_in"] if first else SWEEP_SECONDS))
        elif first["what"] != told_of or loop.time() - told_at >= patience:
            patience = min(watched.longest, 2 * patience) if first["what"] == told_of else RUN_START_TIMEOUT_SECONDS
            told_of, told_at = first["what"], loop.time()
            yield -first["due_in"]
        else:
            await _wait_for_notification(connection, told_at + patience - loop.time())
        await asyncio.sleep(BATCH_SECONDS)  # what comes meanwhile goes together; or a run is on its way


async def _wait_for_notification(connection: Connection, seconds: float) -> None:
    """Waits until events come, or for so many seconds."""
    async with aclosing(connection.notifies(timeout=seconds, stop_after=1)) as notices:
        async for _ in notices:
            pass


async def _row(connection: Connection, query: Any, parameters: list[Any] | None = None) -> DictRow | None:
    return await (await connection.execute(query, parameters)).fetchone()
