"""A record in review: its conflict, and what stands on both sides by now, locked for whoever decides about it."""

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
    """What a person puts in the place of both sides'."""

    value: Any


Side = Literal["SOFTPRO", "ROI"]
Choices = Side | Mapping[str, Side | Value]
"""One side for all fields, or a side or a value for each."""


@dataclass(frozen=True)
class Review:
    """A record in review, locked: its conflict, its row and open edits, and whether SoftPro has deleted it."""

    connection: Connection
    conflict: Conflict
    row: Mapping[str, Any] | None
    edits: Sequence[Edit]
    gone: datetime | None

    @property
    def entity_type(self) -> EntityType:
        return EntityType(self.conflict.entity_type)

    @property
    def softpro(self) -> Fields:
        """What SoftPro has of the fields that are in conflict."""
        there = decode(self.conflict.softpro)
        return {field: there.get(field, MISSING) for field in self.conflict.decisions}

    @property
    def deletes(self) -> list[Edit]:
        return [edit for edit in self.edits if edit.operation == "DELETE"]

    @property
    def alive(self) -> bool:
        return self.row is not None and self.row["deleted_at"] is None

    def of(self, field: str) -> list[Edit]:
        return [edit for edit in self.edits if edit.field == field]

    @property
    def base(self) -> Fields:
        """What both sides last agreed on of the fields that were changed here."""
        return {edit.field: decode_value(edit.old_value) for edit in reversed(self.edits) if edit.field is not None}

    @property
    def both_deleted(self) -> bool:
        return self.gone is not None and not self.alive

    @property
    def roi(self) -> Fields:
        """What stands here of the fields that are in conflict; where SoftPro deleted the record, of all that were
        changed."""
        noted = decode(self.conflict.roi)
        fields = list(self.conflict.decisions)
        if self.conflict.kind == ConflictKind.DELETED_IN_SOFTPRO:
            fields += [edit.field for edit in self.edits if edit.field is not None]
        return {
            field: decode_value(edits[-1].new_value) if (edits := self.of(field)) else noted.get(field, MISSING)
            for field in dict.fromkeys(fields)
        }

    @property
    def edited(self) -> list[str]:
        """The fields of these that were changed here since the conflict was noted."""
        noted = decode(self.conflict.roi)
        if self.conflict.kind == ConflictKind.DELETED_IN_ROI:
            return []
        return [field for field, value in self.roi.items() if not same_json(value, noted.get(field, MISSING))]

    @property
    def meanwhile(self) -> str | None:
        """What has changed since the conflict was noted, so that it is another one now."""
        kind = ConflictKind(self.conflict.kind)
        if self.both_deleted:
            return None
        if kind is ConflictKind.DELETED_IN_SOFTPRO and self.gone is None:
            return "SoftPro has the record again: look again once it was loaded"
        if kind is not ConflictKind.DELETED_IN_SOFTPRO and self.gone is not None:
            return "SoftPro has deleted the record meanwhile: look again once the next push has found out"
        if kind is not ConflictKind.DELETED_IN_ROI and not self.alive:
            return "The row was deleted here meanwhile: look again once SoftPro's record was loaded"
        if self.edited:
            return f"Changed here since the conflict was noted: {', '.join(self.edited)}. Look at it again"
        return None

    def winners(self, choices: Choices) -> dict[str, Side | Value]:
        """The choice for each field. Raises UsageError for a field that is not in conflict, one that is missing, and
        for single fields where it is the record that is to stay or go."""
        fields = self.conflict.decisions
        if isinstance(choices, str):
            return dict.fromkeys(fields, choices)
        if self.conflict.kind != ConflictKind.FIELDS:
            raise UsageError("This is about the record as a whole: one side wins, SOFTPRO or ROI")
        if unknown := sorted(set(choices) - set(fields)):
            raise UsageError(f"Not in conflict: {', '.join(unknown)}. In conflict: {', '.join(fields)}")
        undecided = [field for field, decision in fields.items() if decision["winner"] is None]
        if missing := [field for field in undecided if field not in choices]:
            raise UsageError(f"Decide about every field that is in conflict; missing: {', '.join(missing)}")
        return dict(choices)


def lock_review(connection: Connection, named: Conflict) -> Review:
    """Has the record loaded again, whatever is decided now, and locks all that a decision is about."""
    parameters = {**named.stream.parameters, "entity_id": named.entity_id}
    held = connection.execute(LOCK_RECORD, parameters).fetchone()
    pending.mark(connection, named.stream, [named.entity_id], replace=True)
    cursors.mark_load_due(connection, named.stream)
    row = roi_rows.read(connection, EntityType(named.entity_type), named.roi_entity_id, lock=True)
    conflict = conflicts.get(connection, named.integration_id, named.id, lock=True)
    edits = outbox.open_edits(connection, named.stream, [named.roi_entity_id]).get(named.roi_entity_id, [])
    return Review(connection, conflict, row, edits, held["deleted_at"] if held is not None else None)
