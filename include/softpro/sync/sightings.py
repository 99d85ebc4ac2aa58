"""Record what an audit's sweep sees at SoftPro, in the transaction that lands it, whichever run that is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.softpro360.records import Record, Unreadable
from softpro.sync.cursors import Cursor
from softpro.sync.paging import horizon

# A record that is listed again, by an overlapping page, keeps its `held_hash`: the first time it was landed.
RECORD_SIGHTINGS = """
insert into softpro.audit_seen as s
    (audit_id, organization_id, entity_id, payload_hash, softpro_updated_at, held_hash)
select %(audit_id)s, %(organization_id)s, n.entity_id, n.payload_hash, n.updated_at, (
           select coalesce(r.corrects, r.payload_hash)
           from raw.records r
           where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s
             and r.entity_id = n.entity_id and r.deleted_at is null
       )
from (
    select distinct on (entity_id) entity_id, payload_hash, updated_at
    from unnest(%(ids)s::text[], %(hashes)s::bytea[], %(times)s::timestamptz[])
         with ordinality u (entity_id, payload_hash, updated_at, place)
    order by entity_id, updated_at desc, place desc
) n
on conflict (audit_id, entity_id) do update
set payload_hash = excluded.payload_hash, softpro_updated_at = excluded.softpro_updated_at, readable = true
where coalesce(excluded.softpro_updated_at >= s.softpro_updated_at, true)
"""


def open_audit(connection: Connection, run: Run) -> UUID | None:
    """Return the id of the stream's open audit, if one exists."""
    row = connection.execute(
        """
        select id from softpro.audits
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
          and status not in ('COMPLETED', 'FAILED', 'SUPERSEDED')
        """,
        run.stream.parameters,
    ).fetchone()
    return row["id"] if row else None


def record(
    connection: Connection,
    run: Run,
    audit_id: UUID,
    records: Sequence[Record],
    answered_at: datetime | None,
) -> None:
    """Record the readable records and the versions stored of them. Call it before they land.

    Args:
        answered_at: the `Date` header of the list; None where the records were fetched one by one.
    """
    if answered_at is not None:
        connection.execute(
            "update softpro.audits set in_flux_from = %s where id = %s and in_flux_from is null",
            [horizon(answered_at), audit_id],
        )
    if records:
        connection.execute(
            RECORD_SIGHTINGS,
            {
                **run.stream.parameters,
                "audit_id": audit_id,
                "organization_id": run.organization_id,
                "ids": [record.key.id for record in records],
                "hashes": [record.payload_hash for record in records],
                "times": [record.key.updated_at for record in records],
            },
        )


def record_landed(
    connection: Connection,
    run: Run,
    audit_id: UUID,
    unreadable: Sequence[Unreadable],
    cursor: Cursor,
) -> None:
    """Record the quarantined records, which exist at SoftPro, and end the sweep if the cursor reached its end."""
    for record in unreadable:
        hashed = record.payload_hash
        connection.execute(
            """
            insert into softpro.audit_seen (audit_id, organization_id, entity_id, payload_hash, readable)
            values (%s, %s, %s, %s, false)
            on conflict (audit_id, entity_id) do update set readable = false
            """,
            [audit_id, run.organization_id, record.entity_id or f"payload {hashed.hex()}", hashed],
        )
    if cursor.sweep is None and not cursor.backlog:
        connection.execute(
            "update softpro.audits set status = 'SWEPT', swept_at = now() where id = %s and status = 'SWEEPING'",
            [audit_id],
        )
