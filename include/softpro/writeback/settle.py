"""Settle SoftPro's responses to a push: its record, the outbox and the row, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import sql

from softpro.db import outbox, sync_logs
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.db.outbox import Edit
from softpro.mapping import repository
from softpro.softpro360.records import Record
from softpro.sync.load import load
from softpro.sync.raw_store import forget_etags, store
from softpro.sync.soft_delete import soft_delete
from softpro.sync.transform import stage
from softpro.writeback import push_attempts
from softpro.writeback.field_ownership import FieldOwnership
from softpro.writeback.three_way_merge import ThreeWayMerge

# A row that already has the SoftPro id was loaded from a record without `roiSystemsId`.
DELETE_DUPLICATE_ROW = (
    "delete from {roi} where organization_id = %(organization_id)s and {key} = %(entity_id)s and id <> %(roi_id)s"
)
LOCK_ROWS = "select from {roi} where id = any(%(ids)s) order by id for update"
LOCK_PENDING = """
select from raw.pending
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and entity_id = any(%(entity_ids)s)
order by entity_id
for update
"""
LINK_ROW = """
update {roi} set {key} = %(entity_id)s
where organization_id = %(organization_id)s and id = %(roi_id)s and {key} is null
"""
LINK_EDITS = """
update softpro.outbox set entity_id = %(entity_id)s
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and roi_entity_id = %(roi_id)s
  and entity_id is null and settled_at is null
"""


@dataclass(frozen=True)
class PushResponse:
    """The response to a record that was sent.

    Attributes:
        roi_id: The row's id in `roi`.
        entity_id: The record's SoftPro id.
        edits: The edits that were sent.
        record: SoftPro's record in the response; None if the response of a create was lost, cannot be read, or is only
            a part of the record. The next sync then brings the record.
        asked_at: The time of the request.
    """

    roi_id: UUID
    entity_id: str
    edits: Sequence[Edit]
    record: Record | None
    asked_at: datetime


def settle_sent(connection: Connection, run: Run, responses: Sequence[PushResponse]) -> None:
    """Store that both sides agree on the sent edits. Edits made since then stay in the outbox.

    Raises:
        RulesUnavailable: The process that evaluates mapping rules keeps ending.
    """
    mappings = repository.current(connection, run.stream).mappings
    owners = FieldOwnership.of(run.entity_type, mappings)
    creates = [edit.id for each in responses for edit in each.edits if edit.operation == "CREATE"]
    just_sent = {each.roi_id: {edit.field for edit in each.edits} for each in responses}
    records = [each.record for each in responses if each.record is not None]
    with connection.transaction():
        connection.execute(outbox.MARK_LOADING)
        if records:
            store(connection, run.stream, records, frozenset(), asked_at=min(each.asked_at for each in responses))
        # Locks in the order of a load, which may process the webhooks of these very changes.
        connection.execute(
            LOCK_PENDING, {**run.stream.parameters, "entity_ids": [each.entity_id for each in responses]}
        )
        lock_rows = sql.SQL(LOCK_ROWS).format(roi=sql.Identifier("roi", run.entity_type.table))
        connection.execute(lock_rows, {"ids": [each.roi_id for each in responses]})
        for each in responses:
            _link(connection, run, each.roi_id, each.entity_id)
        outbox.settle_edits(connection, [edit.id for each in responses for edit in each.edits], "SENT", run.log_id)
        outbox.settle_unmapped_fields(connection, creates, run.entity_type.key, owners.mapped)
        push_attempts.clear(connection, run.stream, [each.roi_id for each in responses])
        if unread := [each.entity_id for each in responses if each.record is None]:
            sync_logs.add_counts(connection, run.log_id, records_processed=len(unread), records_updated=len(unread))
            forget_etags(connection, run.stream, unread)
        if records:
            stage(connection, run, records)
            load(connection, run, ThreeWayMerge(connection, run, just_sent), owners.push_only)


def settle_missing(connection: Connection, run: Run, entity_id: str, asked_at: datetime) -> None:
    """Delete the row of a record that SoftPro has deleted."""
    with connection.transaction():
        connection.execute(
            """
            select from raw.records
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s and entity_id = %(entity_id)s
            for update
            """,
            {**run.stream.parameters, "entity_id": entity_id},
        )
        soft_delete(connection, run, {entity_id: asked_at})


def settle_deleted_remotely(
    connection: Connection, run: Run, roi_id: UUID, entity_id: str, edits: Sequence[Edit], asked_at: datetime
) -> None:
    """Settle a delete that SoftPro has carried out."""
    with connection.transaction():
        outbox.settle_edits(connection, [edit.id for edit in edits], "SENT", run.log_id)
        push_attempts.clear(connection, run.stream, [roi_id])
        settle_missing(connection, run, entity_id, asked_at)


def _link(connection: Connection, run: Run, roi_id: UUID, entity_id: str) -> None:
    """Set the SoftPro id of a row that was created in ROI, and of its open edits."""
    names = {"roi": sql.Identifier("roi", run.entity_type.table), "key": sql.Identifier(run.entity_type.key)}
    parameters = {**run.stream.parameters, "roi_id": roi_id, "entity_id": entity_id}
    is_new = sql.SQL("select from {roi} where id = %(roi_id)s and {key} is null for update").format(**names)
    if connection.execute(is_new, parameters).rowcount:
        connection.execute(sql.SQL(DELETE_DUPLICATE_ROW).format(**names), parameters)
        connection.execute(sql.SQL(LINK_ROW).format(**names), parameters)
        connection.execute(LINK_EDITS, parameters)
