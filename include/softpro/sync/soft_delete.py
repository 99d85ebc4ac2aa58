"""The soft delete of records that are gone at the vendor: in `raw`, and in `roi` with history."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from psycopg import sql

from softpro.db import inbox, outbox, sync_logs
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import EntityType, Stream
from softpro.mapping.columns import COLUMNS
from softpro.softpro360.contract import LAG

# A version that was asked for after that is alive again: see `raw`.
MARK_DELETED = """
update raw.records r set deleted_at = g.confirmed_at
from unnest(%(ids)s::text[], %(confirmed)s::timestamptz[]) g (entity_id, confirmed_at)
where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.entity_id = g.entity_id
"""
CLEAR_PENDING = """
with settled as (
    select ctid as place
    from raw.pending
    where (integration_id, entity_type) = (%(integration_id)s, %(entity_type)s) and entity_id = any(%(ids)s)
    order by entity_id
    for update
)
delete from raw.pending p
using settled
where p.ctid = settled.place
"""
SOFT_DELETE_ROWS = """
with replaced as (
    update {roi} t
    set deleted_at = now(), updated_at = greatest(now(), o.updated_at)
    from {roi} o
    where t.id = o.id and o.organization_id = %(organization_id)s and o.{key} = any(%(ids)s) and o.deleted_at is null
      and not exists (
        select from softpro.outbox
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and roi_entity_id = o.id
          and operation = 'UPDATE' and settled_at is null)
    returning o.*
)
insert into {history} ({columns}, valid_from, valid_to, changed_fields)
select {columns}, updated_at, greatest(now(), updated_at), array['deleted_at']
from replaced
"""
SETTLE_BOTH_DELETED = """
with agreed as (
    update softpro.outbox
    set settled_at = clock_timestamp(), outcome = 'AGREED', log_id = %(log_id)s
    where integration_id = %(integration_id)s and entity_type = %(entity_type)s and settled_at is null
      and roi_entity_id in (
        select roi_entity_id
        from softpro.outbox
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and settled_at is null
          and operation = 'DELETE' and entity_id = any(%(ids)s))
    returning roi_entity_id
)
update softpro.conflicts
set status = 'RESOLVED', resolved_at = now(), updated_at = now(), reason = 'Both sides deleted it'
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and status = 'OPEN'
  and roi_entity_id in (select roi_entity_id from agreed)
"""
DISCARD_CASES = """
update softpro.quarantine
set resolved_at = now(), updated_at = now(), resolution = 'DISCARDED', resolved_by = null,
    resolution_reason = 'SoftPro deleted the record'
where (integration_id, entity_type) = (%(integration_id)s, %(entity_type)s)
  and (record_key = any(%(ids)s) or (record_key <> entity_id and entity_id = any(%(ids)s)))
  and resolved_at is null
"""


def soft_delete(connection: Connection, run: Run, confirmed: Mapping[str, datetime]) -> None:
    """Deletes the records of these ids, which the caller has locked in `raw.records`, in the order of ids, in the
    surrounding transaction. `confirmed`: when each was found gone, by the database's clock.

    Their cases in quarantine, and the webhook events that wait for them, are closed with them. A row that was changed
    here, and not sent yet, is left to the next push.
    """
    ids = list(confirmed)
    parameters = {
        **run.stream.parameters,
        "ids": ids,
        "confirmed": list(confirmed.values()),
    }
    connection.execute(outbox.MARK_LOADING)
    agree_about_deletes(connection, run, ids)
    connection.execute(MARK_DELETED, parameters)
    connection.execute(CLEAR_PENDING, parameters)
    buried = soft_delete_rows(connection, run.stream, ids)
    connection.execute(DISCARD_CASES, parameters)
    inbox.settle_events_of_deleted(
        connection, run.stream, log_id=run.log_id, confirmed=confirmed, outcome="DELETED", lag=LAG
    )
    sync_logs.add_counts(connection, run.log_id, records_processed=len(ids), records_updated=buried)


def agree_about_deletes(connection: Connection, run: Run, ids: Collection[str]) -> None:
    """What SoftPro has deleted of what was deleted here is not to be sent any more."""
    if ids:
        connection.execute(SETTLE_BOTH_DELETED, {**run.stream.parameters, "log_id": run.log_id, "ids": list(ids)})


def soft_delete_rows(connection: Connection, stream: Stream, ids: Collection[str]) -> int:
    """Marks the rows of these records deleted, but for those that were changed here, and writes their history. Call it
    inside a transaction that is marked as loading. Returns how many that were."""
    query = _soft_delete(stream.entity_type)
    return connection.execute(query, {**stream.parameters, "ids": list(ids)}).rowcount


def _soft_delete(entity_type: EntityType) -> sql.Composed:
    kept = ("mapping_version", "softpro_created_at", "softpro_updated_at", "created_at", "updated_at", "deleted_at")
    columns = ("id", "organization_id", entity_type.key, *COLUMNS[entity_type], *kept)
    return sql.SQL(SOFT_DELETE_ROWS).format(
        roi=sql.Identifier("roi", entity_type.table),
        history=sql.Identifier("roi", f"{entity_type.table}_history"),
        key=sql.Identifier(entity_type.key),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
    )
