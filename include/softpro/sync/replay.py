"""Mark a stream's quarantined records pending, so that they are mapped, checked and loaded again from `raw`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from psycopg import sql

from softpro.db import leases, pending, queries, sync_logs
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import Stream

MARK_PENDING = """
with chosen as (
    select q.entity_id, q.payload_hash, q.edited_hash
    from softpro.quarantine q
    where q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s and q.resolved_at is null
      and (%(cases)s::uuid[] is null or q.id = any(%(cases)s))
),
there as (
    select c.entity_id, r.organization_id, r.payload_hash
    from chosen c
    cross join lateral (
        select r.organization_id, r.payload_hash
        from raw.records r
        where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.entity_id = c.entity_id
          and r.payload_hash in (c.payload_hash, c.edited_hash) and r.deleted_at is null
        offset 0
    ) r
),
marked as (
    {mark}
)
select (select count(*) from there) as records, (
           select count(*)
           from chosen c
           where c.entity_id is null
              or (c.entity_id not in (select entity_id from there)
                  and (select true from raw.pending p
                       where p.integration_id = %(integration_id)s and p.entity_type = %(entity_type)s
                         and p.entity_id = c.entity_id) is null)
       ) as left
"""

CHOSEN_RECORDS = sql.SQL(
    """
    (select distinct %(integration_id)s::uuid as integration_id, organization_id, %(entity_type)s::text as entity_type,
            entity_id, payload_hash
     from there) chosen_records
    """
)

COUNT_OPEN_CASES = """
select count(*) as n
from softpro.quarantine q
where q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s and q.resolved_at is null
  and (%(cases)s::uuid[] is null or q.id = any(%(cases)s))
  and (select true
       from raw.records r
       where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.entity_id = q.entity_id
         and r.payload_hash in (q.payload_hash, q.edited_hash) and r.deleted_at is null) is null
"""


@dataclass(frozen=True)
class Marked:
    """The number of records that are pending now, and of cases left out because their records could not land."""

    records: int
    unreplayable: int


def mark_cases(connection: Connection, run: Run, cases: Collection[UUID] | None = None) -> Marked:
    """Mark the records of the stream's open cases pending, and note that in the log. Raises LeaseLost.

    Args:
        cases: the cases to replay; None for all of them.
    """
    with connection.transaction():
        leases.fence(connection, run)
        query = sql.SQL(MARK_PENDING).format(mark=pending.marking(CHOSEN_RECORDS))
        row = queries.one(connection, query, _named(run.stream, cases))
        marked = Marked(row["records"], row["left"])
        sync_logs.explain(connection, run.log_id, _reason(marked))
    return marked


def count_unreplayable(connection: Connection, stream: Stream, cases: Collection[UUID] | None = None) -> int:
    """Return how many of the stream's open cases a replay can't help, because their records could not land.

    They need a correction, by a user or by SoftPro.

    Args:
        cases: the cases to count; None for all of them.
    """
    return int(queries.value(connection, COUNT_OPEN_CASES, _named(stream, cases)))


def _named(stream: Stream, cases: Collection[UUID] | None) -> dict[str, object]:
    return {**stream.parameters, "cases": None if cases is None else list(cases)}


def _reason(marked: Marked) -> str:
    reason = f"maps {marked.records} quarantined records again"
    return f"{reason}; {marked.unreplayable} could not land and need a correction" if marked.unreplayable else reason
