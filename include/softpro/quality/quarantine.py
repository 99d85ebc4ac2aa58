"""Records that were not loaded: each with its payload, byte for byte, and its reasons. One bad record stops nobody."""

from __future__ import annotations

from psycopg.types.json import Jsonb

from softpro.store.database import Connection
from softpro.store.leases import Run


def put(
    connection: Connection,
    run: Run,
    *,
    payload: bytes,
    payload_hash: bytes,
    entity_id: str | None,
    reasons: Jsonb,
    again: bool,
) -> int:
    """Opens a record's case, or brings it up to date. Returns 1, or 0 where this payload's case stands open already
    (with `again`: where this very run put it there)."""
    return connection.execute(
        """
        insert into softpro.quarantine as q
            (integration_id, organization_id, entity_type, record_key, entity_id,
             payload, payload_hash, reasons, log_id)
        values (%(integration_id)s, %(organization_id)s, %(entity_type)s, %(record_key)s, %(entity_id)s,
                %(payload)s, %(payload_hash)s, %(reasons)s, %(log_id)s)
        on conflict (integration_id, entity_type, record_key) do update
        set payload = excluded.payload, payload_hash = excluded.payload_hash, reasons = excluded.reasons,
            log_id = excluded.log_id, updated_at = now(), resolved_at = null
        where q.payload_hash <> excluded.payload_hash or q.resolved_at is not null
           or (%(again)s and q.log_id <> excluded.log_id)
        """,
        {
            **run.stream,
            "organization_id": run.organization_id,
            "record_key": entity_id or f"payload {payload_hash.hex()}",
            "entity_id": entity_id,
            "payload": payload,
            "payload_hash": payload_hash,
            "reasons": reasons,
            "log_id": run.log_id,
            "again": again,
        },
    ).rowcount


SETTLE = """
insert into softpro.quarantine as q
    (integration_id, organization_id, entity_type, record_key, entity_id, payload, payload_hash, reasons, log_id,
     mapping_version)
select %(integration_id)s, r.organization_id, %(entity_type)s, j.entity_id, j.entity_id,
       r.payload, j.payload_hash, j.reasons, %(log_id)s,
       (select mapping_version from softpro.sync_logs where id = %(log_id)s)
from (
    select entity_id, payload_hash, jsonb_agg(reason) as reasons
    from staging.rejects, jsonb_array_elements(reasons) reason
    where log_id = %(log_id)s
    group by entity_id, payload_hash
) j
cross join lateral (
    select r.organization_id, convert_to(r.payload::text, 'UTF8') as payload
    from raw.records r
    where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s
      and r.entity_id = j.entity_id and r.payload_hash = j.payload_hash
    offset 0
) r
on conflict (integration_id, entity_type, record_key) do update
set payload = excluded.payload, payload_hash = excluded.payload_hash, reasons = excluded.reasons,
    log_id = excluded.log_id, mapping_version = excluded.mapping_version, updated_at = now(), resolved_at = null
"""


def settle(connection: Connection, run: Run) -> int:
    """Moves the run's rejected records to quarantine, in the transaction that loads the others. Returns how many."""
    return connection.execute(SETTLE, {**run.stream, "log_id": run.log_id}).rowcount
