"""Record each create before it is sent to SoftPro, so that no record is created there twice.

A caller that begins a create, or finds it due, holds a claim on it until `due_at`. A later caller takes the claim over
with another `due_at`. Then the former caller can change nothing, except to report the id of a created record.
See docs/design/write-back.md.
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
from softpro.errors import OutcomeUnknown
from softpro.timestamps import format_milliseconds


@dataclass(frozen=True)
class Create:
    """A record to create at SoftPro.

    Attributes:
        softpro_id: the record's id, once it is known to exist.
        lookups: the number of lookups that did not find it so far.
        due_at: when the claim on it ends; None once the record exists.
    """

    id: UUID
    entity_type: str
    roi_systems_id: str
    order_id: str | None
    softpro_id: str | None
    lookups: int
    due_at: datetime | None

    def known(self) -> str:
        """Return SoftPro's id of the record. Raises OutcomeUnknown."""
        if self.softpro_id is not None:
            return self.softpro_id
        assert self.due_at is not None
        raise OutcomeUnknown(
            f"The {self.entity_type.lower()} {self.roi_systems_id} was sent and the response was lost: "
            f"the next lookup is at {format_milliseconds(self.due_at)}",
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
    """Begin or claim a create, and return it and whether it is new.

    The caller sends a new create. It looks up one that was begun before and is due.

    Args:
        order_id: the order that the record belongs to, if any.
        over_in: the time after which the create has ended and surfaced even if the caller dies.

    Raises:
        OutcomeUnknown: the create was begun before and is not due yet.
        NotFoundHere: no such integration exists.
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
        integrations.get(connection, integration_id)  # if it exists, another caller has just discarded the create


def renew(connection: Connection, claim: Create, over_in: timedelta, lookups: int = 0) -> Create | None:
    """Extend the claim for the next step, and return it; None if the caller has lost it."""
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
    """Postpone the next lookup or attempt, and return the current create, which another caller may have claimed."""
    return renew(connection, claim, after, lookups) or current(connection, claim)


def current(connection: Connection, claim: Create) -> Create:
    """Return the current create, or the claim itself if another caller has discarded the create."""
    return _creates(connection, "select {} from softpro.creates where id = %s", [claim.id]).fetchone() or claim


def mark_created(connection: Connection, claim: Create, softpro_id: str) -> str:
    """Record that the record exists at SoftPro, and return its id: the one that was stored first."""
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
    """Delete a create that certainly was not and will not be made, unless the caller has lost the claim."""
    connection.execute(
        "delete from softpro.creates where id = %s and due_at = %s and softpro_id is null", [claim.id, claim.due_at]
    )


def find(connection: Connection, integration_id: UUID, entity_type: str, roi_systems_id: str) -> Create | None:
    """Return the create with this id of ours, if one was begun."""
    query: LiteralString = """
        select {} from softpro.creates
        where integration_id = %s and entity_type = %s and roi_systems_id = %s
    """
    return _creates(connection, query, [integration_id, entity_type, roi_systems_id]).fetchone()


def is_due(connection: Connection, claim: Create) -> bool:
    """Return whether any request for the create has ended and surfaced."""
    row = connection.execute("select %s <= now() as due", [claim.due_at]).fetchone()
    return bool(row and row["due"])


def due(connection: Connection, integration_id: UUID) -> list[Create]:
    """Return the due creates of unknown fate, longest due first."""
    query: LiteralString = """
        select {} from softpro.creates
        where integration_id = %s and softpro_id is null and due_at <= now()
        order by due_at
    """
    return _creates(connection, query, [integration_id]).fetchall()


def _creates(
    connection: Connection, query: LiteralString, parameters: Sequence[Any] | Mapping[str, Any]
) -> Cursor[Create]:
    """Execute a query whose `{}` is replaced by the columns."""
    return connection.cursor(row_factory=class_row(Create)).execute(sql.SQL(query).format(COLUMNS), parameters)
