"""Settle records that SoftPro deleted while edits of them waited to be sent.

SoftPro cannot undo a delete, so the row is deleted in ROI, and the conflict keeps its edits. If ROI wins, the row is
sent as a new record. Under MANUAL_REVIEW a user decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import sql

from softpro.db import integration_settings, locks, outbox
from softpro.db.database import Connection
from softpro.db.integration_settings import ConflictStrategy
from softpro.db.leases import Run
from softpro.db.locks import Lock
from softpro.db.outbox import Edit
from softpro.entities import EntityType, Stream
from softpro.mapping.paths import MISSING
from softpro.sync.soft_delete import agree_about_deletes, soft_delete
from softpro.writeback import conflicts, push_attempts, roi_rows
from softpro.writeback.field_values import decode_value, encode, fields_of
from softpro.writeback.merge_strategies import ROI, SOFTPRO, Decision, Strategies, Times

SELECT_FOUND = """
select t.id as roi_id, r.entity_id, r.deleted_at
from raw.records r
join {roi} t on t.organization_id = r.organization_id and t.{key} = r.entity_id
where r.integration_id = %(integration_id)s and r.entity_type = %(entity_type)s and r.deleted_at is not null
  and t.deleted_at is null
  and t.id in (
    select roi_entity_id
    from softpro.outbox
    where integration_id = %(integration_id)s and entity_type = %(entity_type)s and operation = 'UPDATE'
      and settled_at is null)
  and not exists (
    select from softpro.conflicts c
    where c.integration_id = r.integration_id and c.entity_type = r.entity_type and c.roi_entity_id = t.id
      and c.status = 'OPEN' and c.kind = 'DELETED_IN_SOFTPRO')
order by r.entity_id
for update of r
"""
# Serializes two pushes of a stream.
SELECT_BOTH_DELETED = """
select distinct o.entity_id
from softpro.outbox o
join raw.records r
  on r.integration_id = o.integration_id and r.entity_type = o.entity_type and r.entity_id = o.entity_id
where o.integration_id = %(integration_id)s and o.entity_type = %(entity_type)s and o.operation = 'DELETE'
  and o.settled_at is null and r.deleted_at is not null
"""
DELETE_CREATE = """
delete from softpro.creates
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and roi_systems_id = %(roi_id)s::text
"""
UNLINK_ROW = "update {roi} set {key} = null, softpro_updated_at = null, deleted_at = null where id = %(roi_id)s"
INSERT_CREATE = """
insert into softpro.outbox
    (integration_id, organization_id, entity_type, roi_entity_id, operation, new_value, changed_by)
select %(integration_id)s, organization_id, %(entity_type)s, id, 'CREATE', to_jsonb(t), %(by)s
from {roi} t
where id = %(roi_id)s
"""


def settle_remote_deletes(connection: Connection, run: Run) -> int:
    """Settle the records that SoftPro deleted and ROI has edited, and return their number."""
    chosen = integration_settings.read(connection, run.integration_id)
    strategy = Strategies(ConflictStrategy(chosen.conflict_strategy), chosen.conflict_overrides).of(run.entity_type)
    with connection.transaction():
        locks.lock_in_transaction(connection, Lock.REMOTE_DELETES, f"{run.integration_id} {run.entity_type.value}")
        connection.execute(outbox.MARK_LOADING)
        deleted = [row["entity_id"] for row in connection.execute(SELECT_BOTH_DELETED, run.stream.parameters)]
        agree_about_deletes(connection, run, deleted)
        found = connection.execute(_compose(SELECT_FOUND, run.entity_type), run.stream.parameters).fetchall()
        edits = outbox.open_edits(connection, run.stream, [row["roi_id"] for row in found])
        for row in found:
            own = edits[row["roi_id"]]  # its locked record keeps others from settling them
            winner, why = _winner(strategy, Times(row["deleted_at"], own[-1].changed_at))
            _record_conflict(
                connection, run, row["roi_id"], row["entity_id"], row["deleted_at"], own, strategy, winner, why
            )
            if winner == ROI:
                recreate_remotely(connection, run.stream, row["roi_id"], own[-1].changed_by, run.log_id)
            elif winner == SOFTPRO:
                delete_locally(connection, run, row["roi_id"], row["entity_id"], row["deleted_at"])
    return len(found)


def recreate_remotely(
    connection: Connection,
    stream: Stream,
    roi_id: UUID,
    by: str,
    log_id: UUID | None,
) -> None:
    """Queue the row to be sent as a new record. Call it inside a transaction that is marked as loading."""
    parameters = {**stream.parameters, "roi_id": roi_id, "by": by}
    edits = outbox.open_edits(connection, stream, [roi_id]).get(roi_id, [])
    outbox.settle_edits(connection, [edit.id for edit in edits], "REPLACED", log_id)
    connection.execute(DELETE_CREATE, parameters)
    connection.execute(_compose(UNLINK_ROW, stream.entity_type), parameters)
    connection.execute(_compose(INSERT_CREATE, stream.entity_type), parameters)
    push_attempts.clear(connection, stream, [roi_id])


def delete_locally(connection: Connection, run: Run, roi_id: UUID, entity_id: str, deleted_at: datetime) -> None:
    """Delete the row like SoftPro's record. Call it inside a transaction that is marked as loading."""
    edits = outbox.open_edits(connection, run.stream, [roi_id]).get(roi_id, [])
    outbox.settle_edits(connection, [edit.id for edit in edits], "OVERRULED", run.log_id)
    push_attempts.clear(connection, run.stream, [roi_id])
    soft_delete(connection, run, {entity_id: deleted_at})


def _winner(strategy: ConflictStrategy, times: Times) -> tuple[str | None, str]:
    match strategy:
        case ConflictStrategy.MANUAL_REVIEW:
            return None, "a user must decide"
        case ConflictStrategy.ROI_WINS:
            return ROI, "by the strategy: it is sent as a new record"
        case ConflictStrategy.NEWEST_WINS if times.newest == ROI:
            return ROI, f"the later change wins, and is sent as a new record: {times}"
        case ConflictStrategy.NEWEST_WINS:
            return SOFTPRO, f"the later change wins: {times}"
        case _:
            return SOFTPRO, "SoftPro cannot undo a delete"


def _record_conflict(
    connection: Connection,
    run: Run,
    roi_id: UUID,
    entity_id: str,
    deleted_at: datetime,
    edits: Sequence[Edit],
    strategy: ConflictStrategy,
    winner: str | None,
    why: str,
) -> None:
    row = roi_rows.read(connection, run.entity_type, roi_id, lock=True)
    assert row is not None
    roi = fields_of(run.entity_type, row)
    names = {edit.field: edit for edit in reversed(edits) if edit.field is not None}
    base = {name: decode_value(edit.old_value) for name, edit in names.items()}
    edited: dict[str, Any] = {name: roi[name] for name in names if name in roi}
    decision = Decision(strategy, winner, MISSING, why).as_json()
    conflicts.record_conflict(
        connection,
        run.stream,
        entity_id=entity_id,
        roi_entity_id=roi_id,
        kind="DELETED_IN_SOFTPRO",
        base=encode({name: value for name, value in base.items() if value is not MISSING}) or "{}",
        softpro="{}",
        roi=encode(edited) or "{}",
        result=None if winner is None else (encode(edited) if winner == ROI else "{}"),
        decisions=encode(dict.fromkeys(names, decision)) or "{}",
        softpro_updated_at=deleted_at,
        roi_changed_at=edits[-1].changed_at,
        roi_changed_by=edits[-1].changed_by,
        reason=None if winner is None else "By the strategy",
        log_id=run.log_id,
    )


def _compose(query: LiteralString, entity_type: EntityType) -> sql.Composed:
    return sql.SQL(query).format(roi=sql.Identifier("roi", entity_type.table), key=sql.Identifier(entity_type.key))
