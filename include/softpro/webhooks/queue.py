"""The webhook events of a stream that are due, and what becomes of those that no fetch has settled."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row

from softpro.db import queries
from softpro.db.database import Connection

RETRY_BASE_SECONDS, RETRY_LIMIT_SECONDS = 10, 3600
FRESH = timedelta(hours=1)
"""A 404 is the first of two for so long."""

# What is due: `status` and the time are those of the index webhook_events_due. Who is to be connected again by a person
# waits for that.
SELECT_DUE_STREAMS = """
select d.integration_id, d.entity_type, sum(d.records)::int as records, bool_or(d.owed) as owed
from (
    select integration_id, entity_type, count(distinct entity_id) as records, false as owed,
           min(priority) as priority, min(received_at) as since
    from softpro.webhook_events
    where status in ('PENDING', 'RETRYING') and coalesce(next_retry_at, received_at) <= clock_timestamp()
    group by 1, 2
    union all
    select integration_id, entity_type, 0, true, 0, load_due_at
    from softpro.cursors
    where load_due_at <= clock_timestamp()
) d
join softpro.integrations i on i.id = d.integration_id
where i.status in ('CONNECTED', 'DISCONNECTED') and (%(only)s::uuid is null or i.id = %(only)s)
group by 1, 2
order by min(d.priority), min(d.since)
"""
SELECT_DUE_RECORDS = """
select entity_id, max(received_at) as received_at
from softpro.webhook_events
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and status in ('PENDING', 'RETRYING')
  and coalesce(next_retry_at, received_at) <= clock_timestamp()
group by 1
order by min(priority), min(received_at), 1
"""
# Whoever changes events locks them in one order. `{which}` are those of the stream, `e`, that are meant.
WITH_LOCKED = """
with locked as (
    select e.id{columns}
    from softpro.webhook_events e{joined}
    where e.integration_id = %(integration_id)s and e.entity_type = %(entity_type)s and {which}
    order by e.id
    for update of e
)
update softpro.webhook_events e
set {set}
from locked l
where e.id = l.id
"""
# ruff: noqa: S608 - all texts of the statements are those of this file
OPEN = "e.status in ('PENDING', 'RETRYING')"
DUE = f"{OPEN} and coalesce(e.next_retry_at, e.received_at) <= clock_timestamp()"
# An event that carries its record, of a version that stands here, tells nothing new.
WHERE_KNOWN = f"""
{OPEN} and e.record_updated_at <= (
    select r.softpro_updated_at
    from raw.records r
    where r.integration_id = e.integration_id and r.entity_type = e.entity_type and r.entity_id = e.entity_id
      and r.deleted_at is null
)
"""
SETTLED = "processed = true, processed_at = clock_timestamp(), next_retry_at = null"
AN_INSTANT = "interval '10 milliseconds'"

# What landed since the first 404 was asked for was there. The last one to come decides when the record is asked for
# again: what came within the lag before a 404 may just not have surfaced.
MARK_MISSING = """
with locked as (
    select e.id, e.entity_id, e.received_at, m.asked_at,
           case when e.missing_at > m.asked_at - %(fresh)s then e.missing_at else m.asked_at end as missing_at
    from unnest(%(ids)s::text[], %(asked)s::timestamptz[]) m (entity_id, asked_at)
    join softpro.webhook_events e on e.entity_id = m.entity_id
    where e.integration_id = %(integration_id)s and e.entity_type = %(entity_type)s
      and e.status in ('PENDING', 'RETRYING') and e.received_at < m.asked_at
    order by e.id
    for update of e
),
gone as (
    select entity_id, min(missing_at) as missing_at, max(received_at) as received_at, max(asked_at) as asked_at
    from locked
    group by 1
),
noted as (
    update softpro.webhook_events e
    set missing_at = l.missing_at, log_id = %(log_id)s,
        next_retry_at = greatest(g.missing_at, g.received_at) + %(lag)s + interval '10 milliseconds'
    from locked l
    join gone g on g.entity_id = l.entity_id
    where e.id = l.id
)
select entity_id, missing_at, asked_at as confirmed_at
from gone
where greatest(missing_at, received_at) <= asked_at - %(lag)s
order by entity_id
"""
COUNT_RECENT_FETCHES = """
select coalesce(sum(api_requests), 0) as requests
from softpro.sync_logs
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and started_at > now() - interval '1 minute'
  and mode = 'records' and sync_type = 'WEBHOOK'
"""
POSTPONE_LOAD = """
update softpro.cursors
set load_due_at = clock_timestamp() + make_interval(secs => %(seconds)s::float8)
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and load_due_at is not null
"""


@dataclass(frozen=True)
class DueStream:
    """A stream with events that are due, of so many records; `owed`: what was landed before may not be loaded yet.
    `entity_type` may be one that is not synced."""

    integration_id: UUID
    entity_type: str
    records: int
    owed: bool

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters that name the stream in a query."""
        return {"integration_id": self.integration_id, "entity_type": self.entity_type}


class Hint(NamedTuple):
    """A record that events are due of; `received_at`: when the last of them was received."""

    entity_id: str
    received_at: datetime


class Gone(NamedTuple):
    """A record that SoftPro answered 404 for twice, the lag or more apart."""

    entity_id: str
    missing_at: datetime
    confirmed_at: datetime


def due_streams(connection: Connection, only: UUID | None) -> list[DueStream]:
    """The streams with events that are due, or records to be loaded, the most urgent first: of `only` one integration,
    or of all."""
    return connection.cursor(row_factory=class_row(DueStream)).execute(SELECT_DUE_STREAMS, {"only": only}).fetchall()


def due_records(connection: Connection, stream: DueStream) -> list[Hint]:
    """The stream's records that events are due of, once each: of a status or a closing first, then as they came."""
    return connection.cursor(row_factory=class_row(Hint)).execute(SELECT_DUE_RECORDS, stream.parameters).fetchall()


def settle_known_events(connection: Connection, stream: DueStream) -> None:
    """Settles events that carry a version of their record which is here, or an earlier one."""
    _change(connection, stream, WHERE_KNOWN, f"{SETTLED}, outcome = 'FETCHED', processing_error = null")


def ignore(connection: Connection, stream: DueStream, why: str) -> None:
    """Settles all events of a stream that is not synced."""
    _change(
        connection, stream, "not e.processed", f"{SETTLED}, outcome = 'IGNORED', processing_error = %(why)s", why=why
    )


def postpone(connection: Connection, stream: DueStream, seconds: float, why: str) -> None:
    """Leaves what is due to a later run: it is not the events' fault."""
    later = "next_retry_at = clock_timestamp() + make_interval(secs => %(seconds)s), processing_error = %(why)s"
    _change(connection, stream, DUE, later, seconds=seconds, why=why)


def after_lag(connection: Connection, stream: DueStream, asked: Mapping[str, datetime], lag: timedelta) -> None:
    """Leaves events that came before these records were asked for, but too shortly to tell, to a fetch after the
    lag."""
    _change(
        connection,
        stream,
        f"{OPEN} and e.received_at < a.asked_at",
        f"next_retry_at = e.received_at + %(lag)s + {AN_INSTANT}",
        joined=" join unnest(%(ids)s::text[], %(asked)s::timestamptz[]) a (entity_id, asked_at) using (entity_id)",
        ids=list(asked),
        asked=list(asked.values()),
        lag=lag,
    )


def start_over(connection: Connection, stream: DueStream, ids: Collection[str], lag: timedelta) -> None:
    """Forgets that these records seemed to be gone: they are asked for anew."""
    _change(
        connection,
        stream,
        "not e.processed and e.entity_id = any(%(ids)s)",
        "next_retry_at = clock_timestamp() + %(lag)s, missing_at = null",
        ids=list(ids),
        lag=lag,
    )


def fail(connection: Connection, stream: DueStream, failed: Mapping[str, str], log_id: UUID) -> None:
    """Counts an attempt in vain at these records' events, and says why, by id: tried again after 10 s, 20 s, … at most
    1 h, or FAILED where that was the last one."""
    _change(
        connection,
        stream,
        OPEN,
        """
        attempts = attempts + 1, processing_error = l.why, log_id = %(log_id)s,
        next_retry_at = case when attempts + 1 < max_attempts then
            clock_timestamp() + make_interval(secs => least(%(limit)s, %(base)s * 2 ^ attempts)) end
        """,
        joined=" join unnest(%(ids)s::text[], %(whys)s::text[]) f (entity_id, why) using (entity_id)",
        columns=", f.why",
        ids=list(failed),
        whys=list(failed.values()),
        log_id=log_id,
        base=RETRY_BASE_SECONDS,
        limit=RETRY_LIMIT_SECONDS,
    )


def give_up(connection: Connection, stream: DueStream, ids: Collection[str], why: str, log_id: UUID) -> None:
    """These records' events are FAILED: trying again is no use."""
    _change(
        connection,
        stream,
        "not e.processed and e.entity_id = any(%(ids)s)",
        "attempts = max_attempts, processing_error = %(why)s, log_id = %(log_id)s, next_retry_at = null",
        ids=list(ids),
        why=why,
        log_id=log_id,
    )


def recent_fetches(connection: Connection, stream: DueStream) -> int:
    """Requests of the last minute by which records of the stream were fetched one by one."""
    return int(queries.value(connection, COUNT_RECENT_FETCHES, stream.parameters))


def missing(
    connection: Connection, stream: DueStream, asked: Mapping[str, datetime], log_id: UUID, lag: timedelta
) -> list[Gone]:
    """Notes which records SoftPro answered 404 for, and when it was asked. Returns those that it is certain of."""
    parameters = {
        **stream.parameters,
        "ids": list(asked),
        "asked": list(asked.values()),
        "log_id": log_id,
        "lag": lag,
        "fresh": FRESH,
    }
    return connection.cursor(row_factory=class_row(Gone)).execute(MARK_MISSING, parameters).fetchall()


def postpone_load(connection: Connection, stream: DueStream, seconds: float | None) -> None:
    """What was landed and not loaded is looked at again then; None: not until more is landed, or a sync does it."""
    connection.execute(POSTPONE_LOAD, {**stream.parameters, "seconds": seconds})


def _change(
    connection: Connection,
    stream: DueStream,
    which: str,
    what: str,
    *,
    joined: str = "",
    columns: str = "",
    **parameters: object,
) -> None:
    query = sql.SQL(WITH_LOCKED).format(  # the texts are those of this file
        columns=sql.SQL(columns), joined=sql.SQL(joined), which=sql.SQL(which), set=sql.SQL(what)
    )
    connection.execute(query, {**stream.parameters, **parameters})
