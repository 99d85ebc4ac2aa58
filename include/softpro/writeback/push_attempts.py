"""Find the due records of the outbox, and store failed attempts. This module owns `softpro.pushes`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString
from uuid import UUID

from psycopg.rows import class_row

from softpro.db import queries
from softpro.db.database import Connection
from softpro.entities import Stream

FIRST_WAIT, MAX_WAIT = timedelta(seconds=10), timedelta(hours=1)

# A record that failed permanently is due after its next edit. `custom` covers all names in it.
SELECT_DUE = """
select o.roi_entity_id
from softpro.outbox o
left join softpro.pushes p
  on p.integration_id = o.integration_id and p.entity_type = o.entity_type and p.roi_entity_id = o.roi_entity_id
where o.integration_id = %(integration_id)s and o.entity_type = %(entity_type)s and o.settled_at is null
  and (%(ids)s::uuid[] is null or o.roi_entity_id = any(%(ids)s))
  and not exists (
    select from softpro.conflicts c
    where c.integration_id = o.integration_id and c.entity_type = o.entity_type
      and c.roi_entity_id = o.roi_entity_id and c.status = 'OPEN')
group by o.roi_entity_id, p.next_attempt_at, p.last_id
having o.roi_entity_id <> all(%(but)s)
   and (bool_or(o.operation <> 'UPDATE' or o.field = any(%(fields)s)
                or ('custom' = any(%(fields)s) and o.field like 'custom.%%')))
   and (p.last_id is null or p.next_attempt_at <= clock_timestamp() or max(o.id) > p.last_id or %(ids)s is not null)
order by min(o.id)
limit %(limit)s
"""

# As in SELECT_DUE, by record, for all organizations that are connected and switched on.
WITH_WAITING = """
with sent as (
    select integration_id, entity_type, array_agg(roi_systems_field) as fields
    from softpro.mappings
    where enabled and direction <> 'SOFTPRO_TO_ROI'
    group by integration_id, entity_type
),
waiting as (
    select o.integration_id, o.entity_type, count(*) as edits, max(o.id) as last_id,
           case when p.last_id is null or max(o.id) > p.last_id then min(o.changed_at) else p.next_attempt_at
           end as due_at
    from softpro.outbox o
    join softpro.integrations i on i.id = o.integration_id
    left join sent s on s.integration_id = o.integration_id and s.entity_type = o.entity_type
    left join softpro.pushes p
      on p.integration_id = o.integration_id and p.entity_type = o.entity_type and p.roi_entity_id = o.roi_entity_id
    where o.settled_at is null
      and i.status = 'CONNECTED' and i.sync_enabled and i.deleted_at is null
      and case o.entity_type when 'TRANSACTION' then i.sync_transactions when 'CONTACT' then i.sync_contacts end
      and not exists (
        select from softpro.conflicts c
        where c.integration_id = o.integration_id and c.entity_type = o.entity_type
          and c.roi_entity_id = o.roi_entity_id and c.status = 'OPEN')
    group by o.integration_id, o.entity_type, o.roi_entity_id, p.next_attempt_at, p.last_id
    having bool_or(o.operation <> 'UPDATE' or o.field = any(s.fields)
                   or ('custom' = any(s.fields) and starts_with(o.field, 'custom.')))
)
"""
SELECT_DUE_STREAMS = """
select integration_id, entity_type, sum(edits)::bigint as edits, max(last_id) as last_id
from waiting
group by integration_id, entity_type
having min(due_at) <= clock_timestamp()
order by min(due_at)
"""

# While `what` stays the same, nothing new waits, and another event is useless.
SELECT_FIRST_DUE: LiteralString = (
    WITH_WAITING
    + """
select sum(edits) || ' edits up to ' || max(last_id) as what,
       extract(epoch from min(due_at) - clock_timestamp())::float8 as due_in
from waiting
having min(due_at) is not null
"""
)


@dataclass(frozen=True)
class Due:
    """A stream with due edits: the number of waiting edits, and the id of the last one."""

    integration_id: UUID
    entity_type: str
    edits: int
    last_id: int


@dataclass(frozen=True)
class Push:
    """A row of `softpro.pushes`: a record that could not be sent."""

    roi_entity_id: UUID
    attempts: int
    next_attempt_at: datetime | None
    missing_at: datetime | None
    error: str
    last_id: int


def due_records(
    connection: Connection,
    stream: Stream,
    fields: Collection[str],
    *,
    ids: Collection[UUID] | None,
    but: Collection[UUID],
    limit: int,
) -> list[UUID]:
    """Return the ROI ids of due records, the earliest edit first.

    Args:
        connection: The database connection.
        stream: The stream.
        fields: The fields that mappings send. Only records with edits of these are due.
        ids: Considers only these records, due or not.
        but: Excludes these records.
        limit: Maximum number of records.
    """
    parameters = {
        **stream.parameters,
        "fields": list(fields),
        "ids": None if ids is None else list(ids),
        "but": list(but),
        "limit": limit,
    }
    return [row["roi_entity_id"] for row in connection.execute(SELECT_DUE, parameters)]


def due_streams(connection: Connection) -> list[Due]:
    """Return the streams with due edits, of organizations that are connected and switched on; earliest edit first."""
    return connection.cursor(row_factory=class_row(Due)).execute(WITH_WAITING + SELECT_DUE_STREAMS).fetchall()


def list_blocked(
    connection: Connection, stream: Stream, ids: Collection[UUID] | None, limit: int
) -> tuple[list[Push], int]:
    """Return the records (of `ids`, if given) that could not be sent, the next retry first, and their total."""
    found = connection.cursor(row_factory=class_row(Push)).execute(
        """
        select roi_entity_id, attempts, next_attempt_at, missing_at, error, last_id
        from softpro.pushes p
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
          and (%(ids)s::uuid[] is null or roi_entity_id = any(%(ids)s))
          and exists (
            select from softpro.outbox o
            where o.integration_id = p.integration_id and o.entity_type = p.entity_type
              and o.roi_entity_id = p.roi_entity_id and o.settled_at is null)
        order by next_attempt_at nulls last, roi_entity_id
        """,
        {**stream.parameters, "ids": None if ids is None else list(ids)},
    )
    every = found.fetchall()
    return every[:limit], len(every)


def find_blocked(connection: Connection, stream: Stream, ids: Sequence[UUID]) -> dict[UUID, Push]:
    """Return the last failed attempt of each of these records, by ROI id."""
    found = connection.cursor(row_factory=class_row(Push)).execute(
        """
        select roi_entity_id, attempts, next_attempt_at, missing_at, error, last_id
        from softpro.pushes
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and roi_entity_id = any(%(ids)s)
        """,
        {**stream.parameters, "ids": list(ids)},
    )
    return {push.roi_entity_id: push for push in found}


def record_failure(
    connection: Connection,
    stream: Stream,
    roi_id: UUID,
    error: str,
    last_id: int,
    *,
    after: timedelta | None,
    missing_at: datetime | None = None,
) -> None:
    """Store a failed attempt. The record waits for `after`, doubled per attempt, or without it until its next edit."""
    connection.execute(
        """
        insert into softpro.pushes as p
            (integration_id, organization_id, entity_type, roi_entity_id, attempts, next_attempt_at, missing_at, error,
             last_id)
        values (%(integration_id)s, %(organization_id)s, %(entity_type)s, %(roi_id)s, 1,
                clock_timestamp() + %(after)s, %(missing_at)s, %(error)s, %(last_id)s)
        on conflict (integration_id, entity_type, roi_entity_id) do update
        set attempts = p.attempts + 1, error = excluded.error, last_id = excluded.last_id, updated_at = now(),
            missing_at = excluded.missing_at,
            next_attempt_at = case when %(after)s::interval is not null then
                clock_timestamp() + least(%(after)s * power(2, least(p.attempts, 20)), %(longest)s) end
        """,
        {
            **stream.parameters,
            "roi_id": roi_id,
            "after": after,
            "longest": MAX_WAIT,
            "missing_at": missing_at,
            "error": error,
            "last_id": last_id,
        },
    )


def postpone(
    connection: Connection,
    stream: Stream,
    roi_id: UUID,
    why: str,
    until: datetime | timedelta,
) -> None:
    """Postpone a record until a time or for a duration, without counting a failed attempt."""
    connection.execute(
        """
        insert into softpro.pushes as p
            (integration_id, organization_id, entity_type, roi_entity_id, next_attempt_at, error, last_id)
        values (%(integration_id)s, %(organization_id)s, %(entity_type)s, %(roi_id)s,
                coalesce(%(at)s, clock_timestamp() + %(after)s), %(why)s, 9223372036854775807)
        on conflict (integration_id, entity_type, roi_entity_id) do update
        set next_attempt_at = excluded.next_attempt_at, error = excluded.error, last_id = excluded.last_id,
            updated_at = now()
        """,
        {
            **stream.parameters,
            "roi_id": roi_id,
            "at": until if isinstance(until, datetime) else None,
            "after": until if isinstance(until, timedelta) else None,
            "why": why,
        },
    )


def clear(connection: Connection, stream: Stream, ids: Collection[UUID]) -> None:
    """Delete the failed attempts of records that were sent or have nothing to send."""
    connection.execute(
        """
        delete from softpro.pushes
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and roi_entity_id = any(%(ids)s)
        """,
        {**stream.parameters, "ids": list(ids)},
    )


def next_due_in(connection: Connection, stream: Stream, ids: Collection[UUID]) -> float | None:
    """Return the seconds until the first of these records is due again; None if none will be."""
    row = queries.one(
        connection,
        """
        select extract(epoch from min(next_attempt_at) - clock_timestamp())::float8 as seconds
        from softpro.pushes
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and roi_entity_id = any(%(ids)s)
        """,
        {**stream.parameters, "ids": list(ids)},
    )
    return None if row["seconds"] is None else max(0.0, float(row["seconds"]))
