"""Has a stream's records that are in quarantine mapped, checked and loaded again from `raw`, without asking SoftPro."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from softpro.db import leases, queries, sync_logs
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
    insert into raw.pending (integration_id, organization_id, entity_type, entity_id, payload_hash)
    select distinct %(integration_id)s::uuid, organization_id, %(entity_type)s, entity_id, payload_hash
    from there
    order by entity_id
    on conflict do nothing
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
    """How many records are pending now, and how many cases were left, as their records could not land."""

    records: int
    unreplayable: int


def mark(connection: Connection, run: Run, cases: Collection[UUID] | None = None) -> Marked:
    """Makes the records of the stream's open cases pending, of all or of these, and says so in the log.

    Raises LeaseLost.
    """
    with connection.transaction():
        leases.fence(connection, run)
        row = queries.one(connection, MARK_PENDING, _named(run.stream, cases))
        marked = Marked(row["records"], row["left"])
        sync_logs.explain(connection, run.log_id, _reason(marked))
    return marked


def count_unreplayable(connection: Connection, stream: Stream, cases: Collection[UUID] | None = None) -> int:
    """How many of the stream's open cases, of all or of these, no replay can help: their records could not land. They
    need a correction, by a person or by SoftPro."""
    return int(queries.value(connection, COUNT_OPEN_CASES, _named(stream, cases)))


def _named(stream: Stream, cases: Collection[UUID] | None) -> dict[str, object]:
    return {**stream.parameters, "cases": None if cases is None else list(cases)}


def _reason(marked: Marked) -> str:
    reason = f"maps again {marked.records} records that are in quarantine"
    return f"{reason}; {marked.unreplayable} could not land and need a correction" if marked.unreplayable else reason
