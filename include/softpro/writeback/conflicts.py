"""Store conflicts: records that both sides changed since they last agreed. This module owns `softpro.conflicts`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, LiteralString
from uuid import UUID

import msgspec
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from softpro.db import queries
from softpro.db.database import Connection
from softpro.entities import EntityType, Stream
from softpro.errors import NotFoundHere
from softpro.json_codec import camel_case
from softpro.timestamps import format_time


class ConflictStatus(StrEnum):
    """The state of a conflict. OPEN waits for a user's decision."""

    OPEN = "OPEN"
    RESOLVED = "RESOLVED"


class ConflictKind(StrEnum):
    """The cause of a conflict: both sides changed fields, or one side deleted a record that the other changed."""

    FIELDS = "FIELDS"
    DELETED_IN_SOFTPRO = "DELETED_IN_SOFTPRO"
    DELETED_IN_ROI = "DELETED_IN_ROI"


@dataclass(frozen=True)
class Conflict:
    """A row of `softpro.conflicts`. `base`, `softpro`, `roi` and `result` are JSON objects by field, as text."""

    id: UUID
    integration_id: UUID
    organization_id: str
    entity_type: str
    entity_id: str
    roi_entity_id: UUID
    kind: str
    status: str
    base: str
    softpro: str
    roi: str
    result: str | None
    decisions: dict[str, dict[str, str | None]]
    softpro_updated_at: datetime | None
    roi_changed_at: datetime | None
    roi_changed_by: str | None
    resolved_by: str | None
    resolved_at: datetime | None
    reason: str | None
    reversed_by: str | None
    reversed_at: datetime | None
    log_id: UUID | None
    created_at: datetime
    updated_at: datetime

    @property
    def stream(self) -> Stream:
        """Return the stream that the conflict belongs to."""
        return Stream.of_row(self.integration_id, self.organization_id, self.entity_type)

    def as_json(self) -> dict[str, Any]:
        """Return the conflict for msgspec's encoder, with camelCase names and the vendor's time format.

        Field values are raw JSON, which the encoder leaves unchanged. `updatedAt` has all digits, so that a decision
        can name the version that the user read.
        """
        values = {name: getattr(self, name) for name in JSON_TEXT_COLUMNS}
        return {
            **camel_case(self),
            **{name: None if text is None else msgspec.Raw(text.encode()) for name, text in values.items()},
            "updatedAt": format_time(self.updated_at),
        }


JSON_TEXT_COLUMNS = ("base", "softpro", "roi", "result")
COLUMNS = sql.SQL(", ").join(
    sql.SQL("{0}::text as {0}").format(sql.Identifier(name)) if name in JSON_TEXT_COLUMNS else sql.Identifier(name)
    for name in Conflict.__dataclass_fields__
)


def record_conflict(
    connection: Connection,
    stream: Stream,
    *,
    entity_id: str,
    roi_entity_id: UUID,
    kind: str,
    base: str,
    softpro: str,
    roi: str,
    result: str | None,
    decisions: str,
    softpro_updated_at: datetime | None,
    roi_changed_at: datetime | None,
    roi_changed_by: str | None,
    reason: str | None,
    log_id: UUID,
) -> None:
    """Store a conflict, in place of the record's open one.

    It is open if `result` is None, and else resolved by the strategy.
    """
    connection.execute(
        """
        insert into softpro.conflicts as c
            (integration_id, organization_id, entity_type, entity_id, roi_entity_id, kind, base, softpro, roi, result,
             decisions, softpro_updated_at, roi_changed_at, roi_changed_by, reason, log_id)
        values (%(integration_id)s, %(organization_id)s, %(entity_type)s, %(entity_id)s, %(roi_entity_id)s, %(kind)s,
                %(base)s, %(softpro)s, %(roi)s, %(result)s, %(decisions)s, %(softpro_updated_at)s, %(roi_changed_at)s,
                %(roi_changed_by)s, %(reason)s, %(log_id)s)
        on conflict (integration_id, entity_type, roi_entity_id) where status = 'OPEN' do update
        set entity_id = excluded.entity_id, kind = excluded.kind, base = excluded.base, softpro = excluded.softpro,
            roi = excluded.roi, result = excluded.result, decisions = excluded.decisions,
            softpro_updated_at = excluded.softpro_updated_at, roi_changed_at = excluded.roi_changed_at,
            roi_changed_by = excluded.roi_changed_by, reason = excluded.reason, log_id = excluded.log_id,
            updated_at = now()
        """,
        {
            **stream.parameters,
            "entity_id": entity_id,
            "roi_entity_id": roi_entity_id,
            "kind": kind,
            "base": base,
            "softpro": softpro,
            "roi": roi,
            "result": result,
            "decisions": decisions,
            "softpro_updated_at": softpro_updated_at,
            "roi_changed_at": roi_changed_at,
            "roi_changed_by": roi_changed_by,
            "reason": reason,
            "log_id": log_id,
        },
    )
    if result is not None:
        close_open(connection, stream, roi_entity_id, reason)


def close_open(
    connection: Connection, stream: Stream, roi_entity_id: UUID, reason: str | None, by: str | None = None
) -> bool:
    """Close the record's open conflict, if it has one, and return whether it had one.

    `by` is the user who decided; None if a strategy decided, or both sides agree.
    """
    return bool(
        connection.execute(
            """
            update softpro.conflicts
            set status = 'RESOLVED', resolved_at = now(), updated_at = now(), reason = %(reason)s, resolved_by = %(by)s
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s
              and roi_entity_id = %(roi_entity_id)s and status = 'OPEN'
            """,
            {**stream.parameters, "roi_entity_id": roi_entity_id, "reason": reason, "by": by},
        ).rowcount
    )


def get(connection: Connection, integration_id: UUID, conflict_id: UUID, *, lock: bool = False) -> Conflict:
    """Return a conflict of an integration, locked until the transaction ends if `lock` is set.

    Raises:
        NotFoundHere: The integration has no such conflict.
    """
    query: LiteralString = "select {} from softpro.conflicts where id = %s and integration_id = %s"
    composed = sql.SQL(query + " for update" if lock else query).format(COLUMNS)
    found = (
        connection.cursor(row_factory=class_row(Conflict)).execute(composed, [conflict_id, integration_id]).fetchone()
    )
    if found is None:
        raise NotFoundHere(f"This integration has no conflict {conflict_id}")
    return found


def page(
    connection: Connection,
    integration_id: UUID,
    *,
    status: ConflictStatus | None,
    entity_type: EntityType | None,
    limit: int,
    offset: int,
) -> tuple[list[Conflict], int]:
    """Return a page of the integration's conflicts, newest first, and their total. None means any status or type."""
    return queries.page(
        connection,
        Conflict,
        columns=COLUMNS,
        source="""
            softpro.conflicts
            where integration_id = %(integration_id)s
              and (%(status)s::text is null or status = %(status)s)
              and (%(entity_type)s::text is null or entity_type = %(entity_type)s)
            """,
        order="created_at desc, id",
        parameters={"integration_id": integration_id, "status": status, "entity_type": entity_type},
        limit=limit,
        offset=offset,
    )


def decide(
    connection: Connection,
    conflict_id: UUID,
    *,
    result: str,
    decisions: Mapping[str, Mapping[str, str | None]],
    by: str,
    reason: str | None,
) -> None:
    """Store a user's decision about an open conflict, which the caller has locked."""
    connection.execute(
        """
        update softpro.conflicts
        set status = 'RESOLVED', resolved_at = now(), updated_at = clock_timestamp(), resolved_by = %(by)s,
            reason = %(reason)s, result = %(result)s, decisions = %(decisions)s
        where id = %(id)s
        """,
        {"id": conflict_id, "result": result, "decisions": Jsonb(dict(decisions)), "by": by, "reason": reason},
    )


def refresh(connection: Connection, conflict_id: UUID, *, roi: str, changed_at: datetime, changed_by: str) -> None:
    """Update ROI's side of an open conflict after further edits."""
    connection.execute(
        """
        update softpro.conflicts
        set roi = %(roi)s, roi_changed_at = %(at)s, roi_changed_by = %(by)s, updated_at = clock_timestamp()
        where id = %(id)s
        """,
        {"id": conflict_id, "roi": roi, "at": changed_at, "by": changed_by},
    )


def mark_reversed(connection: Connection, conflict_id: UUID, by: str) -> None:
    """Record that a new edit reversed the decision."""
    connection.execute(
        """
        update softpro.conflicts
        set reversed_by = %(by)s, reversed_at = now(), updated_at = clock_timestamp()
        where id = %(id)s
        """,
        {"id": conflict_id, "by": by},
    )


def records_in_review(connection: Connection, stream: Stream) -> set[UUID]:
    """Return the ROI ids of the stream's records with an open conflict."""
    found = connection.execute(
        """
        select roi_entity_id from softpro.conflicts
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and status = 'OPEN'
        """,
        stream.parameters,
    )
    return {row["roi_entity_id"] for row in found}
