"""Deletes on their way to SoftPro: many at once wait for a person; where none are sent, the rows come back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from softpro.entities import EntityType
from softpro.store.database import Connection
from softpro.store.leases import Run
from softpro.sync.audits import Limit
from softpro.writeback.plan import Changed

NOT_SENT = "Deletes of this kind are not sent to SoftPro"

OPEN = """
select count(*) filter (where approved_by is null) as unapproved,
       (select count(*) from raw.records
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and deleted_at is null) as live
from softpro.outbox
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and settled_at is null
  and operation = 'DELETE' and entity_id is not null
"""
PENDING = """
with deleted as (
    select distinct entity_id
    from softpro.outbox
    where integration_id = %(integration_id)s and entity_type = %(entity_type)s and settled_at is null
      and operation = 'DELETE' and entity_id is not null
)
insert into raw.pending (integration_id, organization_id, entity_type, entity_id, payload_hash)
select r.integration_id, r.organization_id, r.entity_type, r.entity_id, r.payload_hash
from raw.records r
join deleted d on d.entity_id = r.entity_id
where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.deleted_at is null
order by r.entity_id
on conflict (integration_id, entity_type, entity_id) do update
set payload_hash = excluded.payload_hash
returning entity_id
"""


def guard(connection: Connection, stream: Mapping[str, object], limit: Limit) -> Callable[[Changed], str | None]:
    """Why a delete has to wait: there are more than are sent without asking a person, and nobody has let it pass."""
    row = connection.execute(OPEN, stream).fetchone()
    assert row is not None
    passed = limit.is_passed_by(row["unapproved"], row["live"])
    table = EntityType(str(stream["entity_type"])).table
    why = (
        f"{row['unapproved']} of {row['live']} {table} were deleted in ROI, and a person has to say "
        f"that this is meant: the limit is {limit.percent:g} % and {limit.records} records"
    )

    def waits(record: Changed) -> str | None:
        return why if passed and not any(edit.approved_by for edit in record.edits) else None

    return waits


def restore(connection: Connection, run: Run) -> list[str]:
    """Has what was deleted here loaded again. Returns SoftPro's ids of it."""
    return [row["entity_id"] for row in connection.execute(PENDING, run.stream)]
