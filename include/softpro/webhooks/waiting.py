"""The webhook events of a stream that are due, and what becomes of those that no fetch has settled."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from softpro.store.database import Connection

RETRY_BASE_SECONDS, RETRY_LIMIT_SECONDS = 10, 3600

# What is due: `status` and the time are those of the index webhook_events_due.
DUE_STREAMS = """
select integration_id, entity_type, count(distinct entity_id) as records
from softpro.webhook_events
where status in ('PENDING', 'RETRYING') and coalesce(next_retry_at, received_at) <= clock_timestamp()
  and (%(integration_id)s::uuid is null or integration_id = %(integration_id)s)
group by 1, 2
order by min(priority), min(received_at)
"""
DUE_RECORDS = """
select entity_id, max(received_at) as received_at
from softpro.webhook_events
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and status in ('PENDING', 'RETRYING')
  and coalesce(next_retry_at, received_at) <= clock_timestamp()
group by 1
order by min(priority), min(received_at), 1
"""
# An event that carries its record, of a version that stands here, tells nothing new.
SETTLE_KNOWN = """
update softpro.webhook_events e
set processed = true, processed_at = clock_timestamp(), outcome = 'FETCHED', processing_error = null,
    next_retry_at = null
where e.integration_id = %(integration_id)s and e.entity_type = %(entity_type)s
  and e.status in ('PENDING', 'RETRYING')
  and e.record_updated_at <= (
      select r.softpro_updated_at
      from raw.records r
      where r.integration_id = e.integration_id and r.entity_type = e.entity_type and r.entity_id = e.entity_id
        and r.deleted_at is null
  )
"""
IGNORE = """
update softpro.webhook_events
set processed = true, processed_at = clock_timestamp(), outcome = 'IGNORED', processing_error = %(why)s,
    next_retry_at = null
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and not processed
"""
POSTPONE = """
update softpro.webhook_events
set next_retry_at = clock_timestamp() + make_interval(secs => %(seconds)s), processing_error = %(why)s
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and status in ('PENDING', 'RETRYING')
  and coalesce(next_retry_at, received_at) <= clock_timestamp()
"""
# What a fetch within the lag did not settle is settled by one after it.
AFTER_LAG = """
update softpro.webhook_events e
set next_retry_at = e.received_at + %(lag)s + interval '10 milliseconds', missing_at = null
from unnest(%(ids)s::text[], %(asked)s::timestamptz[]) a (entity_id, asked_at)
where e.integration_id = %(integration_id)s and e.entity_type = %(entity_type)s and e.entity_id = a.entity_id
  and e.status in ('PENDING', 'RETRYING') and e.received_at < a.asked_at
"""
START_OVER = """
update softpro.webhook_events
set next_retry_at = clock_timestamp() + %(lag)s, missing_at = null
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and not processed
  and entity_id = any(%(ids)s)
"""
FAIL = """
update softpro.webhook_events e
set attempts = attempts + 1, processing_error = f.why, log_id = %(log_id)s,
    next_retry_at = case when attempts + 1 < max_attempts then
        clock_timestamp() + make_interval(secs => least(%(limit)s, %(base)s * 2 ^ attempts)) end
from unnest(%(ids)s::text[], %(whys)s::text[]) f (entity_id, why)
where e.integration_id = %(integration_id)s and e.entity_type = %(entity_type)s and e.entity_id = f.entity_id
  and e.status in ('PENDING', 'RETRYING')
"""
GIVE_UP = """
update softpro.webhook_events
set attempts = max_attempts, processing_error = %(why)s, log_id = %(log_id)s, next_retry_at = null
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and not processed
  and entity_id = any(%(ids)s)
"""
FETCHED_LATELY = """
select coalesce(sum(api_requests), 0) as requests
from softpro.sync_logs
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and started_at > now() - interval '1 minute'
  and mode = 'records' and sync_type = 'WEBHOOK'
"""
# The first 404 is noted. What came later than the lag before a second one may just not have surfaced.
MISSING = """
update softpro.webhook_events e
set missing_at = coalesce(e.missing_at, m.asked_at), log_id = %(log_id)s,
    next_retry_at = greatest(coalesce(e.missing_at, m.asked_at), e.received_at) + %(lag)s + interval '10 milliseconds'
from unnest(%(ids)s::text[], %(asked)s::timestamptz[]) m (entity_id, asked_at)
where e.integration_id = %(integration_id)s and e.entity_type = %(entity_type)s and e.entity_id = m.entity_id
  and e.status in ('PENDING', 'RETRYING') and e.received_at < m.asked_at
"""
CONFIRMED = """
select e.entity_id, min(e.missing_at) as missing_at, m.asked_at as confirmed_at
from unnest(%(ids)s::text[], %(asked)s::timestamptz[]) m (entity_id, asked_at)
join softpro.webhook_events e on e.entity_id = m.entity_id
where e.integration_id = %(integration_id)s and e.entity_type = %(entity_type)s and not e.processed
group by e.entity_id, m.asked_at
having min(e.missing_at) <= m.asked_at - %(lag)s and max(e.received_at) <= m.asked_at - %(lag)s
order by e.entity_id
"""


@dataclass(frozen=True)
class Stream:
    """A stream with events that are due, of so many records. `entity_type` may be one that is not synced."""

    integration_id: UUID
    entity_type: str
    records: int

    @property
    def named(self) -> dict[str, object]:
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


def due_streams(connection: Connection, integration_id: UUID | None) -> list[Stream]:
    """The streams with events that are due, the most urgent first: of one integration, or all."""
    cursor = connection.cursor(row_factory=class_row(Stream))
    return cursor.execute(DUE_STREAMS, {"integration_id": integration_id}).fetchall()


def due_records(connection: Connection, stream: Stream) -> list[Hint]:
    """The stream's records that events are due of, once each: of a status or a closing first, then as they came."""
    return connection.cursor(row_factory=class_row(Hint)).execute(DUE_RECORDS, stream.named).fetchall()


def settle_known(connection: Connection, stream: Stream) -> None:
    """Settles events that carry a version of their record which is here, or an earlier one."""
    connection.execute(SETTLE_KNOWN, stream.named)


def ignore(connection: Connection, stream: Stream, why: str) -> None:
    """Settles all events of a stream that is not synced."""
    connection.execute(IGNORE, {**stream.named, "why": why})


def postpone(connection: Connection, stream: Stream, seconds: float, why: str | None) -> None:
    """Leaves what is due to a later run: it is not the events' fault."""
    connection.execute(POSTPONE, {**stream.named, "seconds": seconds, "why": why})


def after_lag(connection: Connection, stream: Stream, asked: Mapping[str, datetime], lag: timedelta) -> None:
    """Leaves events that came before these records were asked for, but too shortly to tell, to a fetch after the
    lag."""
    parameters = {**stream.named, "ids": list(asked), "asked": list(asked.values()), "lag": lag}
    connection.execute(AFTER_LAG, parameters)


def start_over(connection: Connection, stream: Stream, ids: Collection[str], lag: timedelta) -> None:
    """Forgets that these records seemed to be gone: they are asked for anew."""
    connection.execute(START_OVER, {**stream.named, "ids": list(ids), "lag": lag})


def fail(connection: Connection, stream: Stream, failed: Mapping[str, str], log_id: UUID | None) -> None:
    """Counts an attempt in vain at these records' events, and says why, by id: tried again after 10 s, 20 s, … at most
    1 h, or FAILED where that was the last one."""
    connection.execute(
        FAIL,
        {
            **stream.named,
            "ids": list(failed),
            "whys": list(failed.values()),
            "log_id": log_id,
            "base": RETRY_BASE_SECONDS,
            "limit": RETRY_LIMIT_SECONDS,
        },
    )


def give_up(connection: Connection, stream: Stream, ids: Collection[str], why: str, log_id: UUID) -> None:
    """These records' events are FAILED: trying again is no use."""
    connection.execute(GIVE_UP, {**stream.named, "ids": list(ids), "why": why, "log_id": log_id})


def fetched_lately(connection: Connection, stream: Stream) -> int:
    """Requests of the last minute by which records of the stream were fetched one by one."""
    row = connection.execute(FETCHED_LATELY, stream.named).fetchone()
    assert row is not None
    return int(row["requests"])


def missing(
    connection: Connection, stream: Stream, asked: Mapping[str, datetime], log_id: UUID, lag: timedelta
) -> list[Gone]:
    """Notes which records SoftPro answered 404 for, and when it was asked. Returns those that it is certain of."""
    parameters = {
        **stream.named,
        "ids": list(asked),
        "asked": list(asked.values()),
        "log_id": log_id,
        "lag": lag,
    }
    connection.execute(MISSING, parameters)
    return connection.cursor(row_factory=class_row(Gone)).execute(CONFIRMED, parameters).fetchall()
