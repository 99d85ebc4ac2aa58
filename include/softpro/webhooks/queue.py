"""Select the due webhook events of a stream, and retry, postpone or fail those that no fetch has settled."""

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
FIRST_404_MAX_AGE = timedelta(hours=1)
"""How long a first 404 counts, within which the second one must follow."""

# `status` and the time match the index webhook_events_due. Events of an integration that a user has to reconnect wait.
SELECT_DUE_STREAMS = """
select d.integration_id, d.entity_type, sum(d.records)::int as records, bool_or(d.load_due) as load_due
from (
    select integration_id, entity_type, count(distinct entity_id) as records, false as load_due,
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
# Every writer locks events in id order (prevents deadlocks). `{which}` selects among the stream's events, `e`.
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
# An event that carries its record in a version that is stored already contains nothing new.
WHERE_KNOWN = f"""
{OPEN} and e.record_updated_at <= (
    select r.softpro_updated_at
    from raw.records r
    where r.integration_id = e.integration_id and r.entity_type = e.entity_type and r.entity_id = e.entity_id
      and r.deleted_at is null
)
"""
SETTLED = "processed = true, processed_at = clock_timestamp(), next_retry_at = null"
RETRY_MARGIN = "interval '10 milliseconds'"

# A record that landed after the first 404 was requested existed then. The event received last decides when the record
# is requested again: a change within the lag before a 404 may not have surfaced yet.
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
    """A stream with due events, or with a due load.

    Attributes:
        entity_type: may be a type that is not synced.
        records: the number of records that the due events are about.
        load_due: records landed before may not be loaded yet.
    """

    integration_id: UUID
    entity_type: str
    records: int
    load_due: bool

    @property
    def parameters(self) -> dict[str, object]:
        """Return the parameters that name the stream in a query."""
        return {"integration_id": self.integration_id, "entity_type": self.entity_type}


class Hint(NamedTuple):
    """A record with due events; `received_at` is when the last of them was received."""

    entity_id: str
    received_at: datetime


class ConfirmedMissing(NamedTuple):
    """A record for which SoftPro returned 404 twice, at least the lag apart."""

    entity_id: str
    missing_at: datetime
    confirmed_at: datetime


def due_streams(connection: Connection, only: UUID | None) -> list[DueStream]:
    """Return the streams with due events or a due load, the most urgent first.

    Args:
        only: an integration's id; None for all.
    """
    return connection.cursor(row_factory=class_row(DueStream)).execute(SELECT_DUE_STREAMS, {"only": only}).fetchall()


def due_records(connection: Connection, stream: DueStream) -> list[Hint]:
    """Return the records with due events, once each: those with a status or a closing first, then the oldest first."""
    return connection.cursor(row_factory=class_row(Hint)).execute(SELECT_DUE_RECORDS, stream.parameters).fetchall()


def settle_known_events(connection: Connection, stream: DueStream) -> None:
    """Settle events that carry the stored version of their record, or an earlier one."""
    _change(connection, stream, WHERE_KNOWN, f"{SETTLED}, outcome = 'FETCHED', processing_error = null")


def ignore(connection: Connection, stream: DueStream, why: str) -> None:
    """Settle all events of a stream that is not synced."""
    _change(
        connection, stream, "not e.processed", f"{SETTLED}, outcome = 'IGNORED', processing_error = %(why)s", why=why
    )


def postpone(connection: Connection, stream: DueStream, seconds: float, why: str) -> None:
    """Postpone the due events without counting an attempt, because the events are not at fault."""
    later = "next_retry_at = clock_timestamp() + make_interval(secs => %(seconds)s), processing_error = %(why)s"
    _change(connection, stream, DUE, later, seconds=seconds, why=why)


def postpone_past_lag(connection: Connection, stream: DueStream, asked: Mapping[str, datetime], lag: timedelta) -> None:
    """Postpone events that were received less than the lag before their record was requested, until the lag is over.

    A fetch within the lag may not show the change yet.

    Args:
        asked: when each record was requested, by its id.
    """
    _change(
        connection,
        stream,
        f"{OPEN} and e.received_at < a.asked_at",
        f"next_retry_at = e.received_at + %(lag)s + {RETRY_MARGIN}",
        joined=" join unnest(%(ids)s::text[], %(asked)s::timestamptz[]) a (entity_id, asked_at) using (entity_id)",
        ids=list(asked),
        asked=list(asked.values()),
        lag=lag,
    )


def reset_missing(connection: Connection, stream: DueStream, ids: Collection[str], lag: timedelta) -> None:
    """Discard the first 404 of these records, which exist, and request them again after the lag."""
    _change(
        connection,
        stream,
        "not e.processed and e.entity_id = any(%(ids)s)",
        "next_retry_at = clock_timestamp() + %(lag)s, missing_at = null",
        ids=list(ids),
        lag=lag,
    )


def record_failures(connection: Connection, stream: DueStream, failed: Mapping[str, str], log_id: UUID) -> None:
    """Count a failed attempt at these records' events.

    They are retried after 10 s, 20 s and so on, at most 1 h; after the last attempt they are FAILED.

    Args:
        failed: the reasons, by record id.
    """
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
    """Mark these records' events FAILED, because a retry is pointless."""
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
    """Return the number of requests in the last minute that fetched records of the stream one by one."""
    return int(queries.value(connection, COUNT_RECENT_FETCHES, stream.parameters))


def record_missing(
    connection: Connection, stream: DueStream, asked: Mapping[str, datetime], log_id: UUID, lag: timedelta
) -> list[ConfirmedMissing]:
    """Record the 404 responses, and return the records that two of them confirm as missing.

    Args:
        asked: when each record was requested, by its id.
    """
    parameters = {
        **stream.parameters,
        "ids": list(asked),
        "asked": list(asked.values()),
        "log_id": log_id,
        "lag": lag,
        "fresh": FIRST_404_MAX_AGE,
    }
    return connection.cursor(row_factory=class_row(ConfirmedMissing)).execute(MARK_MISSING, parameters).fetchall()


def postpone_load(connection: Connection, stream: DueStream, seconds: float | None) -> None:
    """Postpone the load of landed records by `seconds`; None: until more is landed, or a sync loads them."""
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
