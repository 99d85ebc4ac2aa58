"""What starts the webhooks DAG: an asset whose trigger listens to PostgreSQL and speaks when events are due.

It only wakes the DAG. Nothing is lost where it says too much, too little, or is away: the events stay in their table.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import Any

import psycopg
from airflow.sdk import Asset, AssetWatcher
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row
from psycopg.sql import SQL, Identifier

from softpro.errors import SoftProError
from softpro.orchestration.hook import database_of_environment
from softpro.store import inbox

SWEEP_SECONDS = 30.0
"""At most between two looks, whatever is notified."""

WINDOW_SECONDS = 0.3
"""What comes meanwhile is worked off by the same run."""

DRAINED_SECONDS = 0.5
"""Between two looks while somebody works on the events."""

PATIENCE_SECONDS = 5.0
"""So long the DAG may take to begin, before it is told again of the same events."""

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0

# `due_at` tells whether it is the same event as before: exactly, whatever the way to the database and back takes.
FIRST_DUE = """
select coalesce(e.next_retry_at, e.received_at) as due_at,
       extract(epoch from coalesce(e.next_retry_at, e.received_at) - clock_timestamp())::float8 as due_in
from softpro.webhook_events e
join softpro.integrations i on i.id = e.integration_id
where e.status in ('PENDING', 'RETRYING') and i.status = 'CONNECTED'
order by 1
limit 1
"""

log = logging.getLogger(__name__)

Connection = psycopg.AsyncConnection[DictRow]


class InboxTrigger(BaseEventTrigger):
    """Speaks when webhook events are due and nobody works on them."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", {}

    async def run(self) -> AsyncGenerator[TriggerEvent]:
        """Runs for good: where the database is away it waits, ever longer, and says so once."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                async with await _listening() as connection:
                    if pause > FIRST_PAUSE_SECONDS:
                        log.info("The webhook events are listened for again")
                    pause = FIRST_PAUSE_SECONDS
                    async with aclosing(_due(connection)) as moments:
                        async for seconds in moments:
                            yield TriggerEvent({"due_for_seconds": seconds})  # type: ignore[no-untyped-call]
            except (psycopg.Error, SoftProError, OSError) as failed:
                if pause == FIRST_PAUSE_SECONDS:
                    log.warning("The webhook events can't be listened for, and it is tried again: %s", failed)
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)


# Not in `assets`, which every DAG imports: this takes longer.
WEBHOOKS = Asset(
    name="softpro.webhooks",
    uri="softpro://webhooks",
    group="softpro",
    watchers=[AssetWatcher(name="inbox", trigger=InboxTrigger())],  # type: ignore[no-untyped-call]
)


async def _listening() -> Connection:
    """A connection that is told of events from now on: those that came before have to be looked for."""
    found = await asyncio.to_thread(database_of_environment)
    # Where the network swallows what is sent, an answer would be waited for without end.
    conninfo = make_conninfo(found.conninfo, application_name="softpro-inbox", tcp_user_timeout=10_000)
    connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, row_factory=dict_row)
    try:
        await connection.execute(SQL("listen {}").format(Identifier(inbox.CHANNEL)))
        await _row(connection, FIRST_DUE)  # raises here, not later, where the tables are not there
    except BaseException:
        await connection.close()
        raise
    return connection


async def _due(connection: Connection) -> AsyncGenerator[float]:
    """Whenever events are due and nobody works on them: for how many seconds the first one has been."""
    loop = asyncio.get_running_loop()
    told_of: datetime | None = None
    told_at = 0.0
    while True:
        drained = await _row(connection, inbox.BEING_DRAINED, [inbox.DRAIN_LOCK])
        if drained and drained["drained"]:
            told_of = None
            await asyncio.sleep(DRAINED_SECONDS)
            continue
        first = await _row(connection, FIRST_DUE)
        if first is None or first["due_in"] > 0:
            await _told(connection, min(SWEEP_SECONDS, first["due_in"] if first else SWEEP_SECONDS))
        elif first["due_at"] != told_of or loop.time() - told_at >= PATIENCE_SECONDS:
            told_of, told_at = first["due_at"], loop.time()
            yield -first["due_in"]
        await asyncio.sleep(WINDOW_SECONDS)  # what comes meanwhile goes together; or a run is on its way


async def _told(connection: Connection, seconds: float) -> None:
    """Waits until events come, or for so many seconds."""
    async with aclosing(connection.notifies(timeout=seconds, stop_after=1)) as notices:
        async for _ in notices:
            pass


async def _row(connection: Connection, query: Any, parameters: list[Any] | None = None) -> DictRow | None:
    return await (await connection.execute(query, parameters)).fetchone()
