"""Keep the records that were not loaded, each with its exact payload and its reasons, so that the others can load.

A case is open until a version of the record loads (LOADED, EDITED) or a user discards it (DISCARDED). A case that a
user closed stays closed while the same payload fails again; another payload reopens it. A discarded payload is not
loaded, even if it has become valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from softpro.db import pending, queries
from softpro.db.database import Connection, disable_planner_nodes
from softpro.db.leases import Run
from softpro.entities import Stream

INSERT_CASE = """
insert into softpro.quarantine as q
    (integration_id, organization_id, entity_type, record_key, entity_id,
     payload, payload_hash, reasons, log_id)
values (%(integration_id)s, %(organization_id)s, %(entity_type)s, %(record_key)s, %(entity_id)s,
        %(payload)s, %(payload_hash)s, %(reasons)s, %(log_id)s)
on conflict (integration_id, entity_type, record_key) do update
set payload = excluded.payload, payload_hash = excluded.payload_hash, reasons = excluded.reasons,
    log_id = excluded.log_id, mapping_version = null, updated_at = now(),
    (edited_payload, edited_hash, edited_by, edited_at) = (
        select q.edited_payload, q.edited_hash, q.edited_by, q.edited_at
        where q.payload_hash = excluded.payload_hash),
    (resolved_at, resolution, resolved_by, resolution_reason) = (
        select q.resolved_at, q.resolution, q.resolved_by, q.resolution_reason
        where softpro.is_decided(q, excluded.payload_hash))
where q.payload_hash <> excluded.payload_hash
   or (q.resolved_at is not null and not softpro.is_decided(q, excluded.payload_hash))
   or (%(again)s and q.log_id <> excluded.log_id)
"""


def quarantine_record(
    connection: Connection,
    run: Run,
    *,
    payload: bytes,
    payload_hash: bytes,
    entity_id: str | None,
    reasons: Jsonb,
    again: bool,
) -> int:
    """Open or update the case of a record. Return 1, or 0 if this payload already has a case, open or closed by a user.

    With `again`, the result is 0 only if this same run created that case.
    """
    return connection.execute(
        INSERT_CASE,
        {
            **run.stream.parameters,
            "record_key": entity_id or f"payload {payload_hash.hex()}",
            "entity_id": entity_id,
            "payload": payload,
            "payload_hash": payload_hash,
            "reasons": reasons,
            "log_id": run.log_id,
            "again": again,
        },
    ).rowcount


# Select the records that a run rejected.
SELECT_REJECTED = """
with failed as (
    select j.entity_id, j.payload_hash, j.reasons
    from (
        select entity_id, payload_hash, jsonb_agg(reason) as reasons
        from staging.rejects, jsonb_array_elements(reasons) reason
        where log_id = %(log_id)s
        group by entity_id, payload_hash
    ) j
),
"""
# Select what had landed when a batch was held and is still pending, locked in id order (prevents deadlocks).
PENDING_HELD = sql.SQL(
    """
    select p.ctid
    from raw.pending p
    where p.integration_id = %(integration_id)s and p.entity_type = %(entity_type)s
      and p.payload_hash = (
          select r.payload_hash
          from raw.records r
          where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s
            and r.entity_id = p.entity_id and r.last_seen_at <= %(held_at)s)
    order by p.entity_id
    for update
    """
)
SELECT_HELD = """
with held as ({clear}),
failed as (
    select h.entity_id, h.payload_hash, %(reasons)s::jsonb as reasons
    from held h
    where not exists (
        select from softpro.quarantine q
        where q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s
          and q.entity_id = h.entity_id and q.resolution = 'DISCARDED' and softpro.is_decided(q, h.payload_hash))
),
"""
# If a user's correction was rejected, the case also keeps SoftPro's payload. A correction that gave a record its id
# belongs to the case that the record has without an id.
UPSERT_CASES = """
named as (
    update softpro.quarantine q
    set reasons = f.reasons, log_id = %(log_id)s, mapping_version = l.mapping_version, updated_at = now(),
        (resolved_at, resolution, resolved_by, resolution_reason) = (
            select q.resolved_at, q.resolution, q.resolved_by, q.resolution_reason
            where softpro.is_decided(q, f.payload_hash))
    from failed f
    join raw.records r on r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s
                      and r.entity_id = f.entity_id and r.payload_hash = f.payload_hash
    join softpro.sync_logs l on l.id = %(log_id)s
    where q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s
      and q.entity_id = f.entity_id and q.record_key <> q.entity_id and q.edited_hash = f.payload_hash
    returning q.entity_id
),
put as (
    insert into softpro.quarantine as q
        (integration_id, organization_id, entity_type, record_key, entity_id, payload, payload_hash, reasons, log_id,
         mapping_version)
    select %(integration_id)s, r.organization_id, %(entity_type)s, f.entity_id, f.entity_id,
           r.payload, f.payload_hash, f.reasons, %(log_id)s,
           (select mapping_version from softpro.sync_logs where id = %(log_id)s)
    from failed f
    cross join lateral (
        select r.organization_id, convert_to(r.payload::text, 'UTF8') as payload
        from raw.records r
        where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s
          and r.entity_id = f.entity_id and r.payload_hash = f.payload_hash
        offset 0
    ) r
    where f.entity_id not in (select entity_id from named)
    on conflict (integration_id, entity_type, record_key) do update
    set payload = case excluded.payload_hash when q.edited_hash then q.payload else excluded.payload end,
        payload_hash = case excluded.payload_hash when q.edited_hash then q.payload_hash else excluded.payload_hash end,
        reasons = excluded.reasons, log_id = excluded.log_id, mapping_version = excluded.mapping_version,
        updated_at = now(),
        (edited_payload, edited_hash, edited_by, edited_at) = (
            select q.edited_payload, q.edited_hash, q.edited_by, q.edited_at
            where excluded.payload_hash in (q.payload_hash, q.edited_hash)),
        (resolved_at, resolution, resolved_by, resolution_reason) = (
            select q.resolved_at, q.resolution, q.resolved_by, q.resolution_reason
            where softpro.is_decided(q, excluded.payload_hash))
    returning 1
)
select (select count(*) from named) + (select count(*) from put) as cases
"""


def settle_rejected(connection: Connection, run: Run) -> int:
    """Move the run's rejected records to quarantine, and return their number.

    Call it in the transaction that loads the other records.
    """
    return _count(connection, SELECT_REJECTED + UPSERT_CASES, {**run.stream.parameters, "log_id": run.log_id})


SELECT_ANY_DISCARDED = """
select from softpro.quarantine
where integration_id = %(integration_id)s and entity_type = %(entity_type)s
  and resolution = 'DISCARDED' and resolved_by is not null
limit 1
"""
LEAVE_DISCARDED = """
with discarded as (
    delete from {staged} s
    using softpro.quarantine q
    where s.log_id = %(log_id)s
      and q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s
      and q.entity_id = s.{key} and q.resolution = 'DISCARDED' and softpro.is_decided(q, s.payload_hash)
    returning s.{key} as entity_id
),
reasons as (
    delete from staging.rejects
    where log_id = %(log_id)s and entity_id in (select entity_id from discarded)
)
select count(*) as cases from discarded
"""


def leave_discarded(connection: Connection, run: Run) -> int:
    """Remove discarded records from staging, even those that failed again, and return their number.

    Call it in the transaction that loads the other records. The cases do not change.
    """
    parameters = {**run.stream.parameters, "log_id": run.log_id}
    if not connection.execute(SELECT_ANY_DISCARDED, parameters).rowcount:
        return 0
    query = sql.SQL(LEAVE_DISCARDED).format(
        staged=sql.Identifier("staging", run.entity_type.table), key=sql.Identifier(run.entity_type.key)
    )
    with disable_planner_nodes(connection, "nestloop"):
        return _count(connection, query, parameters)


def settle_rejected_batch(
    connection: Connection, stream: Stream, *, log_id: UUID, held_at: datetime, message: str
) -> int:
    """Move the pending records of a batch that a user rejected to quarantine, and return their number.

    Only records that had landed by `held_at`, when the run of that log last found the problem, move. Later versions
    stay pending.
    """
    reasons = Jsonb([{"column": None, "rule": "held", "message": message}])
    return _count(
        connection,
        sql.SQL(SELECT_HELD + UPSERT_CASES).format(clear=pending.clearing(PENDING_HELD)),
        {**stream.parameters, "log_id": log_id, "held_at": held_at, "reasons": reasons},
    )


def _count(connection: Connection, query: LiteralString | sql.Composed, parameters: Mapping[str, object]) -> int:
    return int(queries.value(connection, query, parameters))
