"""Carry out users' decisions about conflicts: the winner of each field, or another value.

Fields that SoftPro wins are loaded, and fields that ROI wins are sent. The record becomes pending, so the next load
merges the other changes of both sides. A decision is refused if the row or SoftPro's record has changed since the user
read the conflict.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from softpro.db import audit_log, integration_settings, outbox
from softpro.db.database import Connection
from softpro.errors import AlreadyDecided, OutOfDate, SoftProError, UsageError
from softpro.mapping.paths import MISSING
from softpro.sync.soft_delete import soft_delete_rows
from softpro.writeback import conflicts, push_attempts, roi_rows
from softpro.writeback.conflict_lock import Choices, Review, Side, Value, lock_review
from softpro.writeback.conflicts import Conflict, ConflictKind, ConflictStatus
from softpro.writeback.field_values import Fields, apply_fields, decode, encode
from softpro.writeback.merge_strategies import MERGED, ROI, SOFTPRO
from softpro.writeback.remote_deletes import recreate_remotely


@dataclass(frozen=True)
class Resolution:
    """The result for one of several conflicts. `error` is the reason why it is unchanged, or None."""

    conflict_id: UUID
    error: SoftProError | None


def resolve(
    connection: Connection,
    integration_id: UUID,
    conflict_id: UUID,
    choices: Choices,
    *,
    by: str,
    reason: str | None = None,
    seen: datetime | None = None,
) -> Conflict:
    """Resolve an open conflict, and return it.

    Args:
        connection: The database connection.
        integration_id: The integration.
        conflict_id: The conflict.
        choices: The winner of all fields, or a winner or value per field.
        by: The user's name.
        reason: The user's reason.
        seen: The conflict's `updated_at` when the user read it; None skips this check.

    Raises:
        NotFoundHere: The integration has no such conflict.
        AlreadyDecided: The conflict is not open.
        UsageError: The choices are invalid.
        OutOfDate: A side has changed since the conflict was recorded or read.
    """
    named = conflicts.get(connection, integration_id, conflict_id)
    with connection.transaction():
        # Every writer locks in this order (prevents deadlocks): raw, pending, roi, conflicts, outbox.
        record = lock_review(connection, named)
        if record.conflict.status != ConflictStatus.OPEN:
            raise _already_decided(record.conflict)
        if seen is not None and record.conflict.updated_at != seen:
            raise OutOfDate("The conflict has changed since you read it: review it again")
        winners = record.winners(choices)
        out_of_date = record.out_of_date_reason
        if out_of_date is None:
            carry_out = (
                _resolve_deleted_in_both if record.both_deleted else _RESOLVERS[ConflictKind(record.conflict.kind)]
            )
            result = carry_out(record, winners, by)
            _record_decision(record, winners, result, by, reason)
            decided = {field: _winner(choice) for field, choice in winners.items()}
            audit_log.record(
                connection,
                "conflict.resolve",
                integration_id=integration_id,
                subject=conflict_id,
                after={"winners": decided, "reason": reason},
            )
        elif record.fields_edited_since:
            last = record.edits[-1]
            conflicts.refresh(
                connection,
                conflict_id,
                roi=_encode_fields(record.roi),
                changed_at=last.changed_at,
                changed_by=last.changed_by,
            )
    if out_of_date is not None:
        raise OutOfDate(out_of_date)
    return conflicts.get(connection, integration_id, conflict_id)


def _winner(choice: Side | Value) -> str:
    """Return who wins a field; a user's own value is personal data and left out."""
    return "VALUE" if isinstance(choice, Value) else str(choice)


def resolve_some(
    connection: Connection,
    integration_id: UUID,
    conflict_ids: Collection[UUID],
    winner: Side,
    *,
    by: str,
    reason: str | None = None,
) -> list[Resolution]:
    """Resolve each of these conflicts for one side, independently of the others."""
    resolutions = []
    for conflict_id in dict.fromkeys(conflict_ids):
        try:
            resolve(connection, integration_id, conflict_id, winner, by=by, reason=reason)
        except (UsageError, OutOfDate) as refused:
            resolutions.append(Resolution(conflict_id, refused))
        else:
            resolutions.append(Resolution(conflict_id, None))
    return resolutions


def _resolve_fields(record: Review, winners: Mapping[str, Side | Value], by: str) -> Fields:
    """Carry out a decision about fields that both sides changed, and return the result of each."""
    connection, conflict, softpro = record.connection, record.conflict, record.softpro
    values = {field: choice.value for field, choice in winners.items() if isinstance(choice, Value)}
    if values:
        assert record.row is not None
        roi_rows.edit(connection, record.entity_type, conflict.roi_entity_id, record.row, values, by)
        edits = outbox.open_edits(connection, conflict.stream, [conflict.roi_entity_id])[conflict.roi_entity_id]
        record = Review(connection, conflict, record.row, edits, record.softpro_deleted_at)
    result: Fields = {}
    for field, choice in winners.items():
        edits = record.edits_of(field)
        result[field] = softpro[field] if choice == SOFTPRO else record.roi[field]
        if not edits:  # a push has sent it since
            continue
        if choice == SOFTPRO:
            outbox.settle_edits(connection, [edit.id for edit in edits], "OVERRULED", None)
        else:
            outbox.replace(connection, edits, encode(softpro[field]), edits[-1].new_value, None)
    return result


def _resolve_deleted_in_roi(record: Review, winners: Mapping[str, Side | Value], by: str) -> Fields:
    """Restore a row that SoftPro changed and ROI deleted, or queue its delete."""
    connection, conflict, softpro = record.connection, record.conflict, record.softpro
    wins_here = ROI in winners.values()
    if wins_here and not (
        integration_settings.read(connection, conflict.integration_id).push_deletes and record.entity_type.deletable
    ):
        raise UsageError("Deletes of this kind are not sent to SoftPro. Decide for SOFTPRO, which restores the row")
    if not record.deletes:
        if wins_here:
            raise OutOfDate("The row is no longer deleted in ROI: decide for SOFTPRO, or delete it again")
        return softpro
    was = decode(record.deletes[-1].old_value or "{}")
    others = [edit.id for edit in record.edits if edit.operation != "DELETE"]
    connection.execute(outbox.MARK_LOADING)
    if wins_here:
        held = {**was, **apply_fields(was, {**record.base, **softpro})}
        outbox.settle_edits(connection, others, "REPLACED", None)
        outbox.replace(connection, record.deletes, encode(held), None, None)
        return dict.fromkeys(softpro, MISSING)
    outbox.settle_edits(connection, [edit.id for edit in record.edits], "OVERRULED", None)
    if record.row is None:
        roi_rows.restore(connection, record.entity_type, [was])
    return softpro


def _resolve_deleted_in_softpro(record: Review, winners: Mapping[str, Side | Value], by: str) -> Fields:
    """Delete a row that ROI changed and SoftPro deleted, or queue it as a new record."""
    connection, conflict = record.connection, record.conflict
    connection.execute(outbox.MARK_LOADING)
    if ROI in winners.values():
        recreate_remotely(connection, conflict.stream, conflict.roi_entity_id, by, None)
        return record.roi
    outbox.settle_edits(connection, [edit.id for edit in record.edits], "OVERRULED", None)
    soft_delete_rows(connection, conflict.stream, [conflict.entity_id])
    return dict.fromkeys(record.conflict.decisions, MISSING)


def _resolve_deleted_in_both(record: Review, winners: Mapping[str, Side | Value], by: str) -> Fields:
    """Settle the edits of a record that both sides have deleted, independent of the choice."""
    outbox.settle_edits(record.connection, [edit.id for edit in record.edits], "AGREED", None)
    return dict.fromkeys(record.conflict.decisions, MISSING)


_RESOLVERS = {
    ConflictKind.FIELDS: _resolve_fields,
    ConflictKind.DELETED_IN_ROI: _resolve_deleted_in_roi,
    ConflictKind.DELETED_IN_SOFTPRO: _resolve_deleted_in_softpro,
}


def _record_decision(
    record: Review, winners: Mapping[str, Side | Value], result: Fields, by: str, reason: str | None
) -> None:
    """Store the decision. Fields that a strategy decides are left to the load, which records them."""
    connection, conflict = record.connection, record.conflict
    conflicts.decide(
        connection,
        conflict.id,
        result=_encode_fields(result),
        decisions={
            field: {
                **conflict.decisions[field],
                "winner": MERGED if isinstance(choice, Value) else choice,
                "why": f"decided by {by}",
            }
            for field, choice in winners.items()
        },
        by=by,
        reason=reason,
    )
    push_attempts.clear(connection, conflict.stream, [conflict.roi_entity_id])
    connection.execute("select pg_notify(%s, '')", [outbox.CHANNEL])


def _already_decided(conflict: Conflict) -> AlreadyDecided:
    by = conflict.resolved_by or "the strategy, or because both sides agreed"
    return AlreadyDecided(f"Conflict {conflict.id} is already resolved, by {by}")


def _encode_fields(fields: Fields) -> str:
    return encode({field: value for field, value in fields.items() if value is not MISSING}) or "{}"
