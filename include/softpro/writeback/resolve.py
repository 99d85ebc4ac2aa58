"""People's decisions about conflicts: which side's value stands, field by field, or another one.

What is decided for SoftPro is not sent any more, and loaded; what is decided for ROI is to be sent. The record is
pending from then on, so that whoever loads next brings the rest of both sides' changes together. A decision is about
what was looked at: where the row, or SoftPro's record, has changed since, it is to be looked at again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from softpro.db import integration_settings, outbox
from softpro.db.database import Connection
from softpro.errors import AlreadyDecided, OutOfDate, SoftProError, UsageError
from softpro.mapping.paths import MISSING
from softpro.sync.soft_delete import soft_delete_rows
from softpro.writeback import conflicts, push_attempts, roi_rows
from softpro.writeback.conflicts import Conflict, ConflictKind, ConflictStatus
from softpro.writeback.field_values import Fields, apply_fields, decode, encode
from softpro.writeback.merge_strategies import MERGED, ROI, SOFTPRO
from softpro.writeback.remote_deletes import recreate_remotely
from softpro.writeback.review import Choices, Review, Side, Value, lock_review


@dataclass(frozen=True)
class Resolution:
    """What became of one of several conflicts. `error`: why it is still as it was."""

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
    """Decides about an open conflict; `seen`: its `updated_at` as the person saw it. Returns it as it stands then.

    Raises NotFoundHere, DecidedAlready, UsageError for choices that can't be, OutOfDate where something has changed
    since the conflict was noted, or looked at.
    """
    named = conflicts.get(connection, integration_id, conflict_id)
    with connection.transaction():
        # In the order in which everybody locks: raw, pending, roi, conflicts, outbox.
        record = lock_review(connection, named)
        if record.conflict.status != ConflictStatus.OPEN:
            raise _already_decided(record.conflict)
        if seen is not None and record.conflict.updated_at != seen:
            raise OutOfDate("The conflict has changed since you looked at it: look at it again")
        winners = record.winners(choices)
        meanwhile = record.meanwhile
        if meanwhile is None:
            carry_out = (
                _resolve_deleted_in_both if record.both_deleted else _RESOLVERS[ConflictKind(record.conflict.kind)]
            )
            result = carry_out(record, winners, by)
            _record_decision(record, winners, result, by, reason)
        elif record.edited:
            last = record.edits[-1]
            conflicts.refresh(
                connection,
                conflict_id,
                roi=_encode_fields(record.roi),
                changed_at=last.changed_at,
                changed_by=last.changed_by,
            )
    if meanwhile is not None:
        raise OutOfDate(meanwhile)
    return conflicts.get(connection, integration_id, conflict_id)


def resolve_some(
    connection: Connection,
    integration_id: UUID,
    conflict_ids: Collection[UUID],
    winner: Side,
    *,
    by: str,
    reason: str | None = None,
) -> list[Resolution]:
    """Decides about each of these conflicts for one side, whatever becomes of the others."""
    ended = []
    for conflict_id in dict.fromkeys(conflict_ids):
        try:
            resolve(connection, integration_id, conflict_id, winner, by=by, reason=reason)
        except (UsageError, OutOfDate) as refused:
            ended.append(Resolution(conflict_id, refused))
        else:
            ended.append(Resolution(conflict_id, None))
    return ended


def _resolve_fields(record: Review, winners: Mapping[str, Side | Value], by: str) -> Fields:
    """Both sides' changes of fields. Returns what stands of each."""
    connection, conflict, softpro = record.connection, record.conflict, record.softpro
    values = {field: choice.value for field, choice in winners.items() if isinstance(choice, Value)}
    if values:
        assert record.row is not None
        roi_rows.edit(connection, record.entity_type, conflict.roi_entity_id, record.row, values, by)
        edits = outbox.open_edits(connection, conflict.stream, [conflict.roi_entity_id])[conflict.roi_entity_id]
        record = Review(connection, conflict, record.row, edits, record.gone)
    result: Fields = {}
    for field, choice in winners.items():
        edits = record.of(field)
        result[field] = softpro[field] if choice == SOFTPRO else record.roi[field]
        if not edits:  # it was sent meanwhile
            continue
        if choice == SOFTPRO:
            outbox.settle_edits(connection, [edit.id for edit in edits], "OVERRULED", None)
        else:
            outbox.replace(connection, edits, encode(softpro[field]), edits[-1].new_value, None)
    return result


def _resolve_deleted_in_roi(record: Review, winners: Mapping[str, Side | Value], by: str) -> Fields:
    """SoftPro changed what was deleted here: the row comes back, or the delete is to be sent."""
    connection, conflict, softpro = record.connection, record.conflict, record.softpro
    wins_here = ROI in winners.values()
    if wins_here and not (
        integration_settings.read(connection, conflict.integration_id).push_deletes and record.entity_type.deletable
    ):
        raise UsageError("Deletes of this kind are not sent to SoftPro: decide for SOFTPRO, and the row comes back")
    if not record.deletes:
        if wins_here:
            raise OutOfDate("It is not deleted here any more: decide for SOFTPRO, or delete it again")
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
    """SoftPro deleted what was changed here: the row is deleted, too, or sent as a new record."""
    connection, conflict = record.connection, record.conflict
    connection.execute(outbox.MARK_LOADING)
    if ROI in winners.values():
        recreate_remotely(connection, conflict.stream, conflict.roi_entity_id, by, None)
        return record.roi
    outbox.settle_edits(connection, [edit.id for edit in record.edits], "OVERRULED", None)
    soft_delete_rows(connection, conflict.stream, [conflict.entity_id])
    return dict.fromkeys(record.conflict.decisions, MISSING)


def _resolve_deleted_in_both(record: Review, winners: Mapping[str, Side | Value], by: str) -> Fields:
    """Whoever was to win: it is gone on both sides by now."""
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
    """Writes the decision down. Fields that the strategy decides are left to the load, which notes them."""
    connection, conflict = record.connection, record.conflict
    conflicts.decide(
        connection,
        conflict.id,
        result=_encode_fields(result),
        decisions={
            field: {
                **conflict.decisions[field],
                "winner": MERGED if isinstance(choice, Value) else choice,
                "why": f"{by} decided",
            }
            for field, choice in winners.items()
        },
        by=by,
        reason=reason,
    )
    push_attempts.clear(connection, conflict.stream, [conflict.roi_entity_id])
    connection.execute("select pg_notify(%s, '')", [outbox.CHANNEL])


def _already_decided(conflict: Conflict) -> AlreadyDecided:
    by = conflict.resolved_by or "the strategy, or by the sides themselves"
    return AlreadyDecided(f"Conflict {conflict.id} was decided already, by {by}")


def _encode_fields(fields: Fields) -> str:
    return encode({field: value for field, value in fields.items() if value is not MISSING}) or "{}"
