"""Define the input and the outcome of a merge of staged records with edits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from softpro.db.outbox import Edit
from softpro.writeback.field_ownership import FieldOwnership
from softpro.writeback.field_values import decode, decode_value, same_json
from softpro.writeback.merge_strategies import Sides, Strategies, Times


@dataclass(frozen=True)
class MergeRules:
    """The rules of a merge: field ownership, strategies, how far SoftPro's clock is ahead, and if deletes are sent."""

    owners: FieldOwnership
    strategies: Strategies
    clock_ahead: timedelta
    push_deletes: bool

    def times(self, softpro_updated_at: datetime, edits: Sequence[Edit]) -> Times:
        """Return when each side changed, by the database's clock."""
        return Times(softpro_updated_at - self.clock_ahead, edits[-1].changed_at)


@dataclass(frozen=True)
class EditedRow:
    """A staged record that was edited in ROI.

    Attributes:
        entity_id: The record's SoftPro id.
        roi_id: The row's id in `roi`.
        staged: The staged row, by column.
        updated_at: SoftPro's `updatedAt` of the staged version.
        row: The present row, by column; None if it was deleted.
        edits: The open edits, in order.
        merged: The row may already be the merged version.
    """

    entity_id: str
    roi_id: UUID
    staged: dict[str, Any]
    updated_at: datetime
    row: dict[str, Any] | None
    edits: list[Edit]
    merged: bool

    @property
    def is_same_version(self) -> bool:
        """Return whether SoftPro has not changed the record since it was loaded.

        A difference then comes from another mapping.
        """
        before = self.row or decode(self.edits[-1].old_value or "{}")
        return not self.merged and bool(before.get("softpro_updated_at") == self.staged["softpro_updated_at"])

    def by_field(self) -> dict[str, list[Edit]]:
        """Return the edits of fields, by field, in order."""
        found: dict[str, list[Edit]] = {}
        for edit in self.edits:
            if edit.field is not None:
                found.setdefault(edit.field, []).append(edit)
        return found


@dataclass
class MergeOutcome:
    """The writes of a merge: columns of staged records, records that leave staging, and rows to restore."""

    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    in_review: int = 0
    deleted: list[str] = field(default_factory=list)
    restored: list[dict[str, Any]] = field(default_factory=list)

    def keep_deleted(self, record: EditedRow) -> None:
        """Remove the record from staging, and keep its row deleted."""
        self.left_out.append(record.entity_id)
        self.deleted.append(record.entity_id)


def is_unchanged(sides: Sides, edits: Sequence[Edit]) -> bool:
    """Return whether SoftPro has the last agreed value, or a value that ROI had since.

    In the second case, ROI sent that value and the response was lost.
    """
    return same_json(sides.softpro, sides.base) or any(
        same_json(sides.softpro, decode_value(edit.new_value)) for edit in edits
    )
