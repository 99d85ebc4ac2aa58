"""Soft-delete records that SoftPro has deleted: in `raw`, and in `roi` with history."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from psycopg import sql

from softpro.db import inbox, outbox, pending, sync_logs
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import EntityType, Stream
from softpro.mapping.columns import COLUMNS
from softpro.softpro360.contract import LAG

# A version requested after that time revives the record: see `raw_store`.
MARK_DELETED = """
update raw.records r set deleted_at = g.confirmed_at
from unnest(%(ids)s::text[], %(confirmed)s::timestamptz[]) g (entity_id, confirmed_at)
where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.entity_id = g.entity_id
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
    """Soft-delete records in the surrounding transaction, in which the caller has locked them in `raw.records`.

    The caller locks them in id order. Their quarantine cases and the webhook events that wait for them are closed too.
    A row with local edits that are not sent yet is left to the next push.

    Args:
        confirmed: when each record was found deleted, by its id and the database's clock.
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
    pending.clear(connection, run.stream, ids)
    deleted_rows = soft_delete_rows(connection, run.stream, ids)
    connection.execute(DISCARD_CASES, parameters)
    inbox.settle_events_of_deleted(
        connection, run.stream, log_id=run.log_id, confirmed=confirmed, outcome="DELETED", lag=LAG
    )
    sync_logs.add_counts(connection, run.log_id, records_processed=len(ids), records_updated=deleted_rows)


def agree_about_deletes(connection: Connection, run: Run, ids: Collection[str]) -> None:
    """Settle the local deletes of records that SoftPro has deleted too, so that they are not sent."""
    if ids:
        connection.execute(SETTLE_BOTH_DELETED, {**run.stream.parameters, "log_id": run.log_id, "ids": list(ids)})


def soft_delete_rows(connection: Connection, stream: Stream, ids: Collection[str]) -> int:
    """Mark the rows of these records deleted and write their history; return the number of rows.

    Rows with open local edits stay. Call it in a transaction that is marked as loading (`outbox.MARK_LOADING`).
    """
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
