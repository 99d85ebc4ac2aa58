"""Hold back mass deletes until a user approves them, and restore rows whose deletes are not sent."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from psycopg import sql

from softpro.db import audit_log, integration_settings, outbox, pending, queries
from softpro.db.database import Connection
from softpro.db.integrations import Integration
from softpro.delete_limit import DeleteLimit
from softpro.entities import EntityType, Stream
from softpro.errors import OutOfDate, UsageError
from softpro.sync import cursors
from softpro.writeback import conflicts, push_attempts, roi_rows
from softpro.writeback.field_values import decode
from softpro.writeback.plan import EditedRecord

NOT_SENT = "Deletes of this kind are not sent to SoftPro"

COUNT_UNAPPROVED = """
select count(*) as unapproved
from softpro.outbox
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and settled_at is null
  and operation = 'DELETE' and entity_id is not null and approved_by is null
"""
COUNT_LIVE = """
select count(*) as records
from raw.records
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and deleted_at is null
"""
DELETED_IN_ROI = sql.SQL(
    """
    (select * from raw.records
     where integration_id = %(integration_id)s and entity_type = %(entity_type)s and deleted_at is null
       and entity_id in (
           select entity_id
           from softpro.outbox
           where integration_id = %(integration_id)s and entity_type = %(entity_type)s and settled_at is null
             and operation = 'DELETE' and entity_id is not null)) deleted
    """
)


LOCK_WAITING = """
select id, roi_entity_id, old_value::text as was
from softpro.outbox
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and settled_at is null
  and operation = 'DELETE' and entity_id is not null and approved_by is null
order by id
for update
"""
APPROVE_DELETES = "update softpro.outbox set approved_by = %(by)s where id = any(%(ids)s)"


def guard(connection: Connection, stream: Stream, limit: DeleteLimit) -> Callable[[EditedRecord], str | None]:
    """Return a function that gives the reason why a delete has to wait, or None.

    A delete waits if the stream has more unapproved deletes than the limit, and no user has approved this one.
    """
    table = stream.entity_type.table

    @cache
    def live() -> int:
        return int(queries.value(connection, COUNT_LIVE, stream.parameters))

    def waits(record: EditedRecord) -> str | None:
        if any(edit.approved_by for edit in record.edits):
            return None
        # Count each time: users may delete more rows while others are sent.
        unapproved = queries.value(connection, COUNT_UNAPPROVED, stream.parameters)
        if not limit.is_exceeded_by(unapproved, live()):
            return None
        return (
            f"{unapproved} of {live()} {table} were deleted in ROI, and a user must approve this: "
            f"the limit is {limit.percent:g} % and {limit.records} records"
        )

    return waits


def restore_deleted(connection: Connection, stream: Stream) -> list[str]:
    """Mark records that were deleted in ROI as pending, so that they are loaded again. Return their SoftPro ids."""
    query = sql.SQL("{} returning entity_id").format(pending.marking(DELETED_IN_ROI, replace=True))
    return [row["entity_id"] for row in connection.execute(query, stream.parameters)]


def approve(connection: Connection, integration: Integration, entity_type: EntityType, count: int, by: str) -> int:
    """Approve the deletes that wait because they exceed the limit, and return their number.

    Args:
        connection: The database connection.
        integration: The integration.
        entity_type: The entity type of the deletes.
        count: The number of waiting deletes that the user has seen.
        by: The user's name.

    Raises:
        UsageError: Deletes of this kind are not sent.
        OutOfDate: The number of waiting deletes is different now.
    """
    stream = integration.stream(entity_type)
    if not (integration_settings.read(connection, integration.id).push_deletes and entity_type.deletable):
        raise UsageError(f"{NOT_SENT}: pushDeletes is off, or SoftPro cannot delete {entity_type.table}")
    with connection.transaction():
        waiting = _lock_waiting(connection, stream, count)
        connection.execute(APPROVE_DELETES, {"ids": [edit["id"] for edit in waiting], "by": by})
        push_attempts.clear(connection, stream, [edit["roi_entity_id"] for edit in waiting])
        connection.execute("select pg_notify(%s, '')", [outbox.CHANNEL])
        _record(connection, "deletes.approve", stream, waiting)
    return len(waiting)


def withdraw(connection: Connection, integration: Integration, entity_type: EntityType, count: int, by: str) -> int:
    """Withdraw the deletes that wait for approval, and return their number. The next load restores their rows.

    `count` is the number that the user has seen.

    Raises:
        OutOfDate: The number of waiting deletes is different now.
    """
    stream = integration.stream(entity_type)
    with connection.transaction():
        restore_deleted(connection, stream)
        cursors.mark_load_due(connection, stream)
        waiting = _lock_waiting(connection, stream, count)
        connection.execute(outbox.MARK_LOADING)
        roi_rows.restore(connection, entity_type, [decode(edit["was"]) for edit in waiting])
        for edit in waiting:
            conflicts.close_open(connection, stream, edit["roi_entity_id"], "The delete was withdrawn", by)
        outbox.settle_edits(connection, [edit["id"] for edit in waiting], "WITHDRAWN", None)
        _record(connection, "deletes.withdraw", stream, waiting)
        push_attempts.clear(connection, stream, [edit["roi_entity_id"] for edit in waiting])
    return len(waiting)


def _record(connection: Connection, action: str, stream: Stream, waiting: list[dict[str, Any]]) -> None:
    audit_log.record(
        connection,
        action,
        integration_id=stream.integration_id,
        subject=stream.entity_type.value,
        after={"deletes": len(waiting)},
    )


def _lock_waiting(connection: Connection, stream: Stream, count: int) -> list[dict[str, Any]]:
    """Lock and return the unapproved deletes.

    Raises:
        OutOfDate: Their number is not `count`.
    """
    found = connection.execute(LOCK_WAITING, stream.parameters).fetchall()
    if len(found) != count:
        raise OutOfDate(f"{len(found)} deletes of {stream.entity_type.table} wait now, not {count}: review them again")
    return found
