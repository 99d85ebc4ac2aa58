"""Show the changes that a push would send now, or the reasons to wait, without calling SoftPro."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from softpro.db import integration_settings, outbox, queries
from softpro.db.database import Connection
from softpro.db.integrations import Integration
from softpro.delete_limit import DeleteLimit
from softpro.entities import EntityType, Stream
from softpro.mapping import repository
from softpro.mapping.paths import MISSING
from softpro.timestamps import format_milliseconds
from softpro.writeback import conflicts, push_attempts
from softpro.writeback.delete_guard import NOT_SENT, guard
from softpro.writeback.field_ownership import FieldOwnership
from softpro.writeback.plan import EditedRecord, Plan, edited_records, plan_pushes
from softpro.writeback.push_attempts import Push


class PushState(StrEnum):
    """The effect of the next push on a record.

    Attributes:
        SEND: It sends the record.
        NOTHING: It finds nothing to send.
        IN_REVIEW: It skips the record, whose conflict waits for a decision.
        LATER: It skips the record until its next attempt, or until SoftPro's version is loaded.
        FAILED: It skips the record until it is edited again.
        HELD: It does not send the record's delete.
    """

    SEND = "SEND"
    NOTHING = "NOTHING"
    IN_REVIEW = "IN_REVIEW"
    LATER = "LATER"
    FAILED = "FAILED"
    HELD = "HELD"


@dataclass(frozen=True)
class Outgoing:
    """An edited record.

    Attributes:
        entity_type: The entity type of the record.
        plan: The plan of its push. `plan.changes` holds the changes by SoftPro field.
        state: The effect of the next push.
        why: The reason why the record is not sent now; None if it is sent.
        pushed: The last failed attempt, if any.
    """

    entity_type: EntityType
    plan: Plan
    state: PushState
    why: str | None
    pushed: Push | None

    def as_json(self) -> dict[str, Any]:
        """Return the record for `field_values.encode`, with the vendor's time format and exact numbers.

        In `fields`, a null `from` means that SoftPro has no value, and a null `to` clears the field.
        """
        record, last = self.plan.record, self.plan.record.edits[-1]
        again = self.pushed.next_attempt_at if self.pushed is not None and self.state is PushState.LATER else None
        return {
            "entityType": self.entity_type.value,
            "roiEntityId": str(record.roi_id),
            "entityId": record.entity_id,
            "operation": record.operation,
            "state": self.state.value,
            "why": self.why,
            "nextAttemptAt": None if again is None else format_milliseconds(again),
            "attempts": self.pushed.attempts if self.pushed is not None else 0,
            "fields": [
                {"softproField": field, "from": _null_if_missing(there), "to": _null_if_missing(wanted)}
                for field, (there, wanted) in self.plan.changes.items()
            ],
            "edits": [
                {
                    "field": edit.field,
                    "operation": edit.operation,
                    "changedBy": edit.changed_by,
                    "changedAt": format_milliseconds(edit.changed_at),
                }
                for edit in {edit.field: edit for edit in record.edits}.values()
            ],
            "changedBy": last.changed_by,
            "changedAt": format_milliseconds(last.changed_at),
        }


def dry_run(
    connection: Connection,
    integration: Integration,
    entity_types: Collection[EntityType],
    *,
    delete_limit: DeleteLimit,
    records: Collection[UUID] | None = None,
    limit: int,
    offset: int = 0,
) -> tuple[list[Outgoing], int]:
    """Return a page of the records with open edits, the earliest edit first, and their total.

    The dry run compares with SoftPro's version as last loaded. A push first checks that SoftPro still has it.

    Args:
        connection: The database connection.
        integration: The integration.
        entity_types: The entity types to include.
        records: ROI ids. Includes only these, due or not, like a push of them.
        limit: Maximum number of records.
        offset: Number of records to skip.

    Raises:
        RulesUnavailable: The process that evaluates mapping rules keeps ending.
    """
    page, total = outbox.page(connection, integration.id, entity_types, records=records, limit=limit, offset=offset)
    found: dict[UUID, Outgoing] = {}
    for entity_type in entity_types:
        ids = [each.roi_entity_id for each in page if each.entity_type == entity_type]
        if ids:
            found |= _of_stream(
                connection, integration.stream(entity_type), ids, delete_limit=delete_limit, named=records is not None
            )
    return [found[each.roi_entity_id] for each in page if each.roi_entity_id in found], total


def _of_stream(
    connection: Connection,
    stream: Stream,
    ids: Sequence[UUID],
    *,
    delete_limit: DeleteLimit,
    named: bool,
) -> dict[UUID, Outgoing]:
    owners = FieldOwnership.of(stream.entity_type, repository.current(connection, stream).mappings)
    in_review = conflicts.records_in_review(connection, stream)
    pushed = push_attempts.find_blocked(connection, stream, ids)
    held_back = _delete_guard(connection, stream, delete_limit)
    now = queries.now(connection)
    found: dict[UUID, Outgoing] = {}
    for plan in plan_pushes(connection, stream, edited_records(connection, stream, ids)):
        record = plan.record
        before = pushed.get(record.roi_id)
        why: str | None
        if record.roi_id in in_review:
            state, why = PushState.IN_REVIEW, "both sides changed it: a user must resolve its conflict"
        elif not named and before is not None and (waits := _state_if_blocked(record, before, now)):
            state, why = waits, before.error
        else:
            state, why = _state_if_due(plan, owners, held_back)
        found[record.roi_id] = Outgoing(stream.entity_type, plan, state, why, before)
    return found


def _state_if_blocked(record: EditedRecord, before: Push, now: datetime) -> PushState | None:
    """Return the state of a record that could not be sent before, or None if it was edited since or is due again."""
    if record.edits[-1].id > before.last_id:
        return None
    if before.next_attempt_at is None:
        return PushState.FAILED
    return PushState.LATER if before.next_attempt_at > now else None


def _state_if_due(
    plan: Plan, owners: FieldOwnership, held_back: Callable[[EditedRecord], str | None]
) -> tuple[PushState, str | None]:
    """Return the state of a due record, and the reason if it is not sent."""
    record = plan.record
    if record.operation == "DELETE":
        if record.entity_id is None:
            return PushState.NOTHING, "SoftPro never had it"
        why = held_back(record)
        return (PushState.SEND, None) if why is None else (PushState.HELD, why)
    if plan.problem is not None:
        return PushState.FAILED, plan.problem
    if record.operation == "CREATE":
        return PushState.SEND, None
    if not any(owners.outbound(field) for field in record.edited):
        return PushState.NOTHING, "no mapping sends the changed fields"
    if record.remote is None or record.remote.pending:
        return PushState.LATER, "SoftPro's version is loaded first"
    if record.remote.quarantined:
        return PushState.LATER, "SoftPro's version is in quarantine, so its changes are unknown"
    if record.remote.deleted_at is not None:
        return PushState.LATER, "SoftPro deleted it, which is settled first"
    return (PushState.SEND, None) if plan.fields else (PushState.NOTHING, "SoftPro has the same values")


def _delete_guard(connection: Connection, stream: Stream, limit: DeleteLimit) -> Callable[[EditedRecord], str | None]:
    """Return a function that gives the reason why a delete would not be sent, or None."""
    if not (integration_settings.read(connection, stream.integration_id).push_deletes and stream.entity_type.deletable):
        return lambda record: f"{NOT_SENT}: the row is restored"
    return guard(connection, stream, limit)


def _null_if_missing(value: Any) -> Any:
    return None if value is MISSING else value
