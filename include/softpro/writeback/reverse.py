"""Reverse decisions about conflicts by a new edit in the user's name, with the values of the side that lost."""

from __future__ import annotations

from uuid import UUID

from softpro.db import audit_log
from softpro.db.database import Connection
from softpro.entities import EntityType
from softpro.errors import AlreadyDecided, OutOfDate, UsageError
from softpro.mapping.paths import MISSING
from softpro.writeback import conflicts, roi_rows
from softpro.writeback.conflicts import Conflict, ConflictKind, ConflictStatus
from softpro.writeback.field_values import Fields, decode, fields_of, same_json
from softpro.writeback.merge_strategies import SOFTPRO

SELECT_PENDING = """
select from raw.pending
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and entity_id = %(entity_id)s
"""


def reversal(conflict: Conflict) -> Fields:
    """Return the edit that reverses a decision, by field.

    It has ROI's value of a field that SoftPro won, and else SoftPro's. MISSING removes a `custom.<name>` that the side
    did not have. The result is empty if an edit cannot reverse the decision.
    """
    if conflict.kind != ConflictKind.FIELDS or conflict.status != ConflictStatus.RESOLVED:
        return {}
    softpro, roi, result = (decode(text or "{}") for text in (conflict.softpro, conflict.roi, conflict.result))
    lost = {
        field: (roi if decision["winner"] == SOFTPRO else softpro).get(field, MISSING)
        for field, decision in conflict.decisions.items()
        if field in result or field in softpro or field in roi
    }
    return {field: value for field, value in lost.items() if not same_json(value, result.get(field, MISSING))}


def reverse(connection: Connection, integration_id: UUID, conflict_id: UUID, *, by: str) -> Conflict:
    """Make the edit of `reversal`, which is sent like any other, and return the conflict.

    Raises:
        NotFoundHere: The integration has no such conflict.
        UsageError: The decision cannot be reversed.
        AlreadyDecided: It was already reversed.
        OutOfDate: The row is deleted, has changed since, or has not loaded the decision yet.
    """
    named = conflicts.get(connection, integration_id, conflict_id)
    entity_type = EntityType(named.entity_type)
    with connection.transaction():
        row = roi_rows.read(connection, entity_type, named.roi_entity_id, lock=True)
        conflict = conflicts.get(connection, integration_id, conflict_id, lock=True)
        changes = reversal(conflict)
        if conflict.reversed_at is not None:
            raise AlreadyDecided(f"Conflict {conflict_id} is already reversed, by {conflict.reversed_by}")
        if not changes:
            raise UsageError("Only a decision about fields can be reversed, after it was made")
        if row is None or row["deleted_at"] is not None:
            raise OutOfDate("The row no longer exists")
        if connection.execute(SELECT_PENDING, {**conflict.stream.parameters, "entity_id": conflict.entity_id}).rowcount:
            raise OutOfDate("The decision is not loaded yet: reverse it after the next sync")
        current, result = fields_of(entity_type, row), decode(conflict.result or "{}")
        later = [field for field in changes if not same_json(current.get(field, MISSING), result.get(field, MISSING))]
        if later:
            raise OutOfDate(f"Changed since the decision: {', '.join(later)}. Edit the row instead")
        roi_rows.edit(connection, entity_type, conflict.roi_entity_id, row, changes, by)
        conflicts.mark_reversed(connection, conflict_id, by)
        audit_log.record(
            connection,
            "conflict.reverse",
            integration_id=integration_id,
            subject=conflict_id,
            after={"fields": sorted(changes)},
        )
    return conflicts.get(connection, integration_id, conflict_id)
