"""What was begun to be made at the vendor: written down before it is sent, so that it is never made twice.

Who begins a create, or finds it due, holds a claim on it until `due_at`, and nobody else touches it before. Whoever
comes later claims it with another `due_at`: from then on the first one's changes nothing, but for an id it has to tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

from psycopg import Cursor, sql
from psycopg.rows import class_row

from softpro.db import integrations
from softpro.db.database import Connection
from softpro.errors import FateUnknown
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

    def known(self) -> str:
        """The vendor's id of the record. Raises FateUnknown."""
        if self.softpro_id is not None:
            return self.softpro_id
        assert self.due_at is not None
        raise FateUnknown(
            f"The {self.entity_type.lower()} {self.roi_systems_id} was sent and its answer lost: "
            f"it is looked for at {format_milliseconds(self.due_at)}",
            due_at=self.due_at,
        )


COLUMNS = sql.SQL(", ").join(map(sql.Identifier, Create.__dataclass_fields__))


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

    One that was begun before, and is due, is the caller's to look for. Raises FateUnknown while it is not due;
    NotFoundHere.
    """
    parameters = {
        "id": uuid4(),
        "integration_id": integration_id,
        "entity_type": entity_type,
        "roi_systems_id": roi_systems_id,
        "order_id": order_id,
        "over_in": over_in,
    }
    while True:
        claimed = _creates(
            connection,
            """
            insert into softpro.creates as stored
                (id, integration_id, entity_type, roi_systems_id, organization_id, order_id, due_at)
            select %(id)s, id, %(entity_type)s, %(roi_systems_id)s, organization_id, %(order_id)s, now() + %(over_in)s
            from softpro.integrations
            where id = %(integration_id)s
            on conflict (integration_id, entity_type, roi_systems_id) do update
            set due_at = excluded.due_at, updated_at = now()
            where stored.softpro_id is null and stored.due_at <= now()
            returning {}
            """,
            parameters,
        ).fetchone()
        if claimed is not None:
            return claimed, claimed.id == parameters["id"]
        stored = _creates(
            connection,
            """
            select {} from softpro.creates
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s
              and roi_systems_id = %(roi_systems_id)s
            """,
            parameters,
        ).fetchone()
        if stored is not None:
            stored.known()
            return stored, False
        integrations.get(connection, integration_id)  # it is there: who had begun the create forgot it just now


def renew(connection: Connection, claim: Create, over_in: timedelta, lookups: int = 0) -> Create | None:
    """The claim from now on, for what is done next; None where it is the caller's no more."""
    return _creates(
        connection,
        """
        update softpro.creates
        set due_at = now() + %s, lookups = %s, updated_at = now()
        where id = %s and due_at = %s and softpro_id is null
        returning {}
        """,
        [over_in, lookups, claim.id, claim.due_at],
    ).fetchone()


def postpone(connection: Connection, claim: Create, after: timedelta, lookups: int) -> Create:
    """It is not to be looked for, or sent, before then. The create as it stands: where it was the caller's no more,
    as another left it."""
    return renew(connection, claim, after, lookups) or current(connection, claim)


def current(connection: Connection, claim: Create) -> Create:
    """The create as it stands; the claim itself where another has forgotten it."""
    return _creates(connection, "select {} from softpro.creates where id = %s", [claim.id]).fetchone() or claim


def mark_created(connection: Connection, claim: Create, softpro_id: str) -> str:
    """The record is there. Returns its id: the one that was written down first."""
    stored = connection.execute(
        """
        update softpro.creates
        set softpro_id = coalesce(softpro_id, %s), due_at = null, updated_at = now()
        where id = %s
        returning softpro_id
        """,
        [softpro_id, claim.id],
    ).fetchone()
    return stored["softpro_id"] if stored else softpro_id


def discard(connection: Connection, claim: Create) -> None:
    """It certainly was not made, and will not be; unless it is the caller's no more."""
    connection.execute(
        "delete from softpro.creates where id = %s and due_at = %s and softpro_id is null", [claim.id, claim.due_at]
    )


def find(connection: Connection, integration_id: UUID, entity_type: str, roi_systems_id: str) -> Create | None:
    """The create of this id of ours; None where none was begun."""
    query: LiteralString = """
        select {} from softpro.creates
        where integration_id = %s and entity_type = %s and roi_systems_id = %s
    """
    return _creates(connection, query, [integration_id, entity_type, roi_systems_id]).fetchone()


def is_due(connection: Connection, claim: Create) -> bool:
    """Whether what was sent for it is over, and has surfaced."""
    row = connection.execute("select %s <= now() as due", [claim.due_at]).fetchone()
    return bool(row and row["due"])


def due(connection: Connection, integration_id: UUID) -> list[Create]:
    """The creates of unknown fate whose time has come, longest due first."""
    query: LiteralString = """
        select {} from softpro.creates
        where integration_id = %s and softpro_id is null and due_at <= now()
        order by due_at
    """
    return _creates(connection, query, [integration_id]).fetchall()


def _creates(
    connection: Connection, query: LiteralString, parameters: Sequence[Any] | Mapping[str, Any]
) -> Cursor[Create]:
    """What a query answers whose `{}` is the columns."""
    return connection.cursor(row_factory=class_row(Create)).execute(sql.SQL(query).format(COLUMNS), parameters)
