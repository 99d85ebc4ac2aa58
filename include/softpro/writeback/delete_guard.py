"""Deletes on their way to SoftPro: many at once wait for a person; where none are sent, the rows come back."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from psycopg import sql

from softpro.db import integration_settings, outbox, pending, queries
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
    """Why a delete has to wait: there are more than are sent without asking a person, and nobody has let it pass."""
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
            f"{unapproved} of {live()} {table} were deleted in ROI, and a person has to say "
            f"that this is meant: the limit is {limit.percent:g} % and {limit.records} records"
        )

    return waits


def restore_deleted(connection: Connection, stream: Stream) -> list[str]:
    """Has what was deleted here loaded again. Returns SoftPro's ids of it."""
    query = sql.SQL("{} returning entity_id").format(pending.marking(DELETED_IN_ROI, replace=True))
    return [row["entity_id"] for row in connection.execute(query, stream.parameters)]


def approve(connection: Connection, integration: Integration, entity_type: EntityType, count: int, by: str) -> int:
    """Lets the deletes pass that wait as they are too many: `count` of them, as the person has seen. Returns it.

    Raises UsageError where deletes are not sent, OutOfDate where others wait by now.
    """
    stream = integration.stream(entity_type)
    if not (integration_settings.read(connection, integration.id).push_deletes and entity_type.deletable):
        raise UsageError(f"{NOT_SENT}: pushDeletes is off, or SoftPro can't delete {entity_type.table}")
    with connection.transaction():
        waiting = _lock_waiting(connection, stream, count)
        connection.execute(APPROVE_DELETES, {"ids": [edit["id"] for edit in waiting], "by": by})
        push_attempts.clear(connection, stream, [edit["roi_entity_id"] for edit in waiting])
        connection.execute("select pg_notify(%s, '')", [outbox.CHANNEL])
    return len(waiting)


def withdraw(connection: Connection, integration: Integration, entity_type: EntityType, count: int, by: str) -> int:
    """Takes the deletes back that wait: `count` of them, as the person has seen. Their rows are loaded again, whoever
    does that next. Returns the count. Raises OutOfDate where others wait by now."""
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
        push_attempts.clear(connection, stream, [edit["roi_entity_id"] for edit in waiting])
    return len(waiting)


def _lock_waiting(connection: Connection, stream: Stream, count: int) -> list[dict[str, Any]]:
    """The deletes that nobody has let pass, locked. Raises OutOfDate where they are not so many."""
    found = connection.execute(LOCK_WAITING, stream.parameters).fetchall()
    if len(found) != count:
        raise OutOfDate(f"{len(found)} deletes of {stream.entity_type.table} wait now, not {count}: look again")
    return found
