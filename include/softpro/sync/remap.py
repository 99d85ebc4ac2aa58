"""Has all of a stream's records mapped, checked and loaded again from `raw`, without asking SoftPro for any."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from softpro.db import leases, queries
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import EntityType

MARK_PENDING = """
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
        return Marked(connection.execute(MARK_PENDING, run.stream.parameters).rowcount)


def records(connection: Connection, integration_id: UUID, entity_types: Iterable[EntityType]) -> int:
    """How many records would be mapped again of these streams: all that was ever fetched, but for deleted ones."""
    return int(
        queries.value(
            connection,
            """
        select count(*) as n
        from raw.records
        where integration_id = %s and entity_type = any(%s) and deleted_at is null
        """,
            [integration_id, [entity_type.value for entity_type in entity_types]],
        )
    )
