"""Changes back what was decided about a conflict: an edit like any other, in a person's name, that gives the values of
the side that lost."""

from __future__ import annotations

from uuid import UUID

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
    """The edit that takes a decision back, ready-made: ROI's value of a field that SoftPro won, else SoftPro's; MISSING
    where that had no such `custom.<name>`. Empty where there is nothing to take back by an edit."""
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
    """Makes that edit; it is sent to SoftPro as any other. Returns the conflict as it stands then.

    Raises NotFoundHere, UsageError where there is nothing to take back, DecidedAlready where that was done, OutOfDate
    where the row is gone, or was changed since.
    """
    named = conflicts.get(connection, integration_id, conflict_id)
    entity_type = EntityType(named.entity_type)
    with connection.transaction():
        row = roi_rows.read(connection, entity_type, named.roi_entity_id, lock=True)
        conflict = conflicts.get(connection, integration_id, conflict_id, lock=True)
        changes = reversal(conflict)
        if conflict.reversed_at is not None:
            raise AlreadyDecided(f"Conflict {conflict_id} was reversed already, by {conflict.reversed_by}")
        if not changes:
            raise UsageError("Only decisions about fields can be reversed, once they are made")
        if row is None or row["deleted_at"] is not None:
            raise OutOfDate("The row is not there any more")
        if connection.execute(SELECT_PENDING, {**conflict.stream.parameters, "entity_id": conflict.entity_id}).rowcount:
            raise OutOfDate("What was decided is not loaded yet: reverse it after the next sync")
        stands, result = fields_of(entity_type, row), decode(conflict.result or "{}")
        later = [field for field in changes if not same_json(stands.get(field, MISSING), result.get(field, MISSING))]
        if later:
            raise OutOfDate(f"Changed since that was decided: {', '.join(later)}. Edit the row itself")
        roi_rows.edit(connection, entity_type, conflict.roi_entity_id, row, changes, by)
        conflicts.mark_reversed(connection, conflict_id, by)
    return conflicts.get(connection, integration_id, conflict_id)
