"""Has all of a stream's records mapped, checked and loaded again from `raw`, without asking SoftPro for any."""

from __future__ import annotations

from dataclasses import dataclass

from softpro.store import leases
from softpro.store.database import Connection
from softpro.store.leases import Run

MARK = """
insert into raw.pending (integration_id, organization_id, entity_type, entity_id, payload_hash)
select integration_id, organization_id, entity_type, entity_id, payload_hash
from raw.records
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and deleted_at is null
order by entity_id
on conflict do nothing
"""


@dataclass(frozen=True)
class Marked:
    """How many records became pending; those that were so already are not counted."""

    records: int


def mark(connection: Connection, run: Run) -> Marked:
    """Makes every record of the stream pending, but for deleted ones. Raises LeaseLost."""
    with connection.transaction():
        leases.fence(connection, run)
        return Marked(connection.execute(MARK, run.stream).rowcount)
