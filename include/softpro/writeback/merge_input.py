"""What a load decides from and comes to, of records that people changed here."""

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
    """What decides: who owns a field, the strategies, SoftPro's clock, and whether deletes are sent."""

    owners: FieldOwnership
    strategies: Strategies
    clock_ahead: timedelta
    deletes: bool

    def times(self, softpro_updated_at: datetime, edits: Sequence[Edit]) -> Times:
        return Times(softpro_updated_at - self.clock_ahead, edits[-1].changed_at)


@dataclass(frozen=True)
class EditedRow:
    """A staged record that was edited here. `row`: as it stands; None: somebody deleted it. `merged`: it may be what is
    staged already."""

    entity_id: str
    roi_id: UUID
    staged: dict[str, Any]
    updated_at: datetime
    row: dict[str, Any] | None
    edits: list[Edit]
    merged: bool

    @property
    def is_same_version(self) -> bool:
        """SoftPro has not changed the record since it was loaded: what differs comes of another mapping."""
        before = self.row or decode(self.edits[-1].old_value or "{}")
        return not self.merged and bool(before.get("softpro_updated_at") == self.staged["softpro_updated_at"])

    def by_field(self) -> dict[str, list[Edit]]:
        found: dict[str, list[Edit]] = {}
        for edit in self.edits:
            if edit.field is not None:
                found.setdefault(edit.field, []).append(edit)
        return found


@dataclass
class MergeOutcome:
    """What is to be written: columns of staged records, records that leave staging, rows that come back."""

    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    in_review: int = 0
    deleted: list[str] = field(default_factory=list)
    brought_back: list[dict[str, Any]] = field(default_factory=list)

    def stays_deleted(self, record: EditedRow) -> None:
        self.left_out.append(record.entity_id)
        self.deleted.append(record.entity_id)


def is_unchanged(sides: Sides, edits: Sequence[Edit]) -> bool:
    """SoftPro holds what both sides agreed on, or what this field had here since: then we sent it ourselves, and the
    answer was lost."""
    return same_json(sides.softpro, sides.base) or any(
        same_json(sides.softpro, decode_value(edit.new_value)) for edit in edits
    )
