"""Lock a record in review: its conflict, and the present values on both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from softpro.db import outbox, pending
from softpro.db.database import Connection
from softpro.db.outbox import Edit
from softpro.entities import EntityType
from softpro.errors import UsageError
from softpro.mapping.paths import MISSING
from softpro.sync import cursors
from softpro.writeback import conflicts, roi_rows
from softpro.writeback.conflicts import Conflict, ConflictKind
from softpro.writeback.field_values import Fields, decode, decode_value, same_json

LOCK_RECORD = """
select deleted_at
from raw.records
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and entity_id = %(entity_id)s
for update
"""


@dataclass(frozen=True)
class Value:
    """A value that a user gives in place of both sides' values."""

    value: Any


Side = Literal["SOFTPRO", "ROI"]
Choices = Side | Mapping[str, Side | Value]
"""One side for all fields, or a side or a value per field."""


@dataclass(frozen=True)
class Review:
    """A locked record in review: its conflict, row and open edits, and the time at which SoftPro deleted it."""

    connection: Connection
    conflict: Conflict
    row: Mapping[str, Any] | None
    edits: Sequence[Edit]
    softpro_deleted_at: datetime | None

    @property
    def entity_type(self) -> EntityType:
        """Return the entity type of the record."""
        return EntityType(self.conflict.entity_type)

    @property
    def softpro(self) -> Fields:
        """Return SoftPro's values of the fields in conflict."""
        there = decode(self.conflict.softpro)
        return {field: there.get(field, MISSING) for field in self.conflict.decisions}

    @property
    def deletes(self) -> list[Edit]:
        """Return the open deletes of the row."""
        return [edit for edit in self.edits if edit.operation == "DELETE"]

    @property
    def row_exists(self) -> bool:
        """Return whether the row exists and is not marked as deleted."""
        return self.row is not None and self.row["deleted_at"] is None

    def edits_of(self, field: str) -> list[Edit]:
        """Return the open edits of a field, in order."""
        return [edit for edit in self.edits if edit.field == field]

    @property
    def base(self) -> Fields:
        """Return the last agreed values of the edited fields."""
        return {edit.field: decode_value(edit.old_value) for edit in reversed(self.edits) if edit.field is not None}

    @property
    def both_deleted(self) -> bool:
        """Return whether both sides have deleted the record."""
        return self.softpro_deleted_at is not None and not self.row_exists

    @property
    def roi(self) -> Fields:
        """Return ROI's present values of the fields in conflict.

        If SoftPro deleted the record, all edited fields are included.
        """
        noted = decode(self.conflict.roi)
        fields = list(self.conflict.decisions)
        if self.conflict.kind == ConflictKind.DELETED_IN_SOFTPRO:
            fields += [edit.field for edit in self.edits if edit.field is not None]
        return {
            field: decode_value(edits[-1].new_value) if (edits := self.edits_of(field)) else noted.get(field, MISSING)
            for field in dict.fromkeys(fields)
        }

    @property
    def fields_edited_since(self) -> list[str]:
        """Return the fields of `roi` that were edited since the conflict was recorded."""
        noted = decode(self.conflict.roi)
        if self.conflict.kind == ConflictKind.DELETED_IN_ROI:
            return []
        return [field for field, value in self.roi.items() if not same_json(value, noted.get(field, MISSING))]

    @property
    def out_of_date_reason(self) -> str | None:
        """Return why the conflict is out of date, with the next step; None if it is not."""
        kind = ConflictKind(self.conflict.kind)
        if self.both_deleted:
            return None
        if kind is ConflictKind.DELETED_IN_SOFTPRO and self.softpro_deleted_at is None:
            return "SoftPro has the record again: review the conflict after the record is loaded"
        if kind is not ConflictKind.DELETED_IN_SOFTPRO and self.softpro_deleted_at is not None:
            return "SoftPro has deleted the record since: review the conflict after the next push"
        if kind is not ConflictKind.DELETED_IN_ROI and not self.row_exists:
            return "The row was deleted in ROI since: review the conflict after SoftPro's record is loaded"
        if self.fields_edited_since:
            return f"Edited in ROI since the conflict was recorded: {', '.join(self.fields_edited_since)}. Review it"
        return None

    def winners(self, choices: Choices) -> dict[str, Side | Value]:
        """Return the choice for each field.

        Raises:
            UsageError: A field is not in conflict or is missing, or the conflict is about the whole record.
        """
        fields = self.conflict.decisions
        if isinstance(choices, str):
            return dict.fromkeys(fields, choices)
        if self.conflict.kind != ConflictKind.FIELDS:
            raise UsageError("This conflict is about the whole record: give one winner, SOFTPRO or ROI")
        if unknown := sorted(set(choices) - set(fields)):
            raise UsageError(f"Not in conflict: {', '.join(unknown)}. In conflict: {', '.join(fields)}")
        undecided = [field for field, decision in fields.items() if decision["winner"] is None]
        if missing := [field for field in undecided if field not in choices]:
            raise UsageError(f"Decide about every field in conflict; missing: {', '.join(missing)}")
        return dict(choices)


def lock_review(connection: Connection, named: Conflict) -> Review:
    """Mark the record as pending, so that it is loaded again after any decision, and lock everything it concerns."""
    parameters = {**named.stream.parameters, "entity_id": named.entity_id}
    held = connection.execute(LOCK_RECORD, parameters).fetchone()
    pending.mark(connection, named.stream, [named.entity_id], replace=True)
    cursors.mark_load_due(connection, named.stream)
    row = roi_rows.read(connection, EntityType(named.entity_type), named.roi_entity_id, lock=True)
    conflict = conflicts.get(connection, named.integration_id, named.id, lock=True)
    edits = outbox.open_edits(connection, named.stream, [named.roi_entity_id]).get(named.roi_entity_id, [])
    return Review(connection, conflict, row, edits, held["deleted_at"] if held is not None else None)
