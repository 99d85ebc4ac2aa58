"""What was begun to be made at the vendor: written down before it is sent, so that it is never made twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from softpro.errors import FateUnknown
from softpro.store.database import Connection
from softpro.timestamps import format_milliseconds


@dataclass(frozen=True)
class Create:
    """One create. `softpro_id` once it is known that the record is there; `lookups` that did not find it so far."""

    id: UUID
    entity_type: str
    roi_systems_id: str
    order_id: str | None
    softpro_id: str | None
    lookups: int
    due_at: datetime | None


def begin(
    connection: Connection,
    integration_id: UUID,
    entity_type: str,
    roi_systems_id: str,
    order_id: str | None,
    over_in: timedelta,
) -> tuple[Create, bool]:
    """The create as it stands, and whether it is new: then it is the caller's to send. `over_in` says when that is over
    and has surfaced even if the caller dies.

    One that was begun before, and is due, is the caller's to look for. Raises FateUnknown while it is not due.
    """
    parameters = {
        "integration_id": integration_id,
        "entity_type": entity_type,
        "roi_systems_id": roi_systems_id,
        "order_id": order_id,
        "over_in": over_in,
    }
    cursor = connection.cursor(row_factory=class_row(Create))
    new = cursor.execute(
        """
        insert into softpro.creates
            (integration_id, entity_type, roi_systems_id, organization_id, order_id, due_at)
        select id, %(entity_type)s, %(roi_systems_id)s, organization_id, %(order_id)s, now() + %(over_in)s
        from softpro.integrations
        where id = %(integration_id)s
        on conflict (integration_id, entity_type, roi_systems_id) do nothing
        returning id, entity_type, roi_systems_id, order_id, softpro_id, lookups, due_at
        """,
        parameters,
    ).fetchone()
    if new is not None:
        return new, True
    claimed = cursor.execute(
        """
        update softpro.creates
        set due_at = now() + %(over_in)s, updated_at = now()
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
          and roi_systems_id = %(roi_systems_id)s and softpro_id is null and due_at <= now()
        returning id, entity_type, roi_systems_id, order_id, softpro_id, lookups, due_at
        """,
        parameters,
    ).fetchone()
    if claimed is not None:
        return claimed, False
    stored = cursor.execute(
        """
        select id, entity_type, roi_systems_id, order_id, softpro_id, lookups, due_at
        from softpro.creates
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
          and roi_systems_id = %(roi_systems_id)s
        """,
        parameters,
    ).fetchone()
    if stored is None:  # another process began it, was refused, and forgot it: from the start then
        return begin(connection, integration_id, entity_type, roi_systems_id, order_id, over_in)
    if stored.softpro_id is None:
        raise _unknown(stored)
    return stored, False


def made(connection: Connection, create: Create, softpro_id: str) -> str:
    """The record is there. Returns its id."""
    connection.execute(
        "update softpro.creates set softpro_id = %s, due_at = null, updated_at = now() where id = %s",
        [softpro_id, create.id],
    )
    return softpro_id


def postpone(connection: Connection, create: Create, after: timedelta, lookups: int) -> FateUnknown:
    """It is not to be looked for, or sent, before then. Returns the error to raise."""
    stored = (
        connection.cursor(row_factory=class_row(Create))
        .execute(
            """
            update softpro.creates
            set due_at = now() + %s, lookups = %s, updated_at = now()
            where id = %s
            returning id, entity_type, roi_systems_id, order_id, softpro_id, lookups, due_at
            """,
            [after, lookups, create.id],
        )
        .fetchone()
    )
    assert stored is not None
    return _unknown(stored)


def forget(connection: Connection, create: Create) -> None:
    """It certainly was not made, and will not be."""
    connection.execute("delete from softpro.creates where id = %s", [create.id])


def due(connection: Connection, integration_id: UUID) -> list[Create]:
    """The creates of unknown fate whose time has come, longest due first."""
    query = """
        select id, entity_type, roi_systems_id, order_id, softpro_id, lookups, due_at
        from softpro.creates
        where integration_id = %s and softpro_id is null and due_at <= now()
        order by due_at
    """
    return connection.cursor(row_factory=class_row(Create)).execute(query, [integration_id]).fetchall()


def _unknown(create: Create) -> FateUnknown:
    assert create.due_at is not None
    return FateUnknown(
        f"The {create.entity_type.lower()} {create.roi_systems_id} was sent and its answer lost: "
        f"it is looked for at {format_milliseconds(create.due_at)}",
        due_at=create.due_at,
    )
