"""Mark all of a stream's records pending, so that they are mapped, checked and loaded again from `raw`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from softpro.db import leases, pending, queries
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import EntityType


@dataclass(frozen=True)
class Marked:
    """The number of records that became pending, without those that already were."""

    records: int


def mark_pending(connection: Connection, run: Run) -> Marked:
    """Mark every record of the stream pending, except deleted ones. Raises LeaseLost."""
    with connection.transaction():
        leases.fence(connection, run)
        return Marked(pending.mark(connection, run.stream))


def count_records(connection: Connection, integration_id: UUID, entity_types: Iterable[EntityType]) -> int:
    """Return how many records a remap of these streams covers: every stored record, except deleted ones."""
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
