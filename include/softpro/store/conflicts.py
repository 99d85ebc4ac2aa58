"""Records that both sides changed since they last agreed: open until a person decides, or how it was decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row

from softpro.errors import NotFoundHere
from softpro.store.database import Connection


@dataclass(frozen=True)
class Conflict:
    """One row of `softpro.conflicts`; `base`, `softpro`, `roi` and `result` are JSON objects, by field, as text."""

    id: UUID
    integration_id: UUID
    organization_id: str
    entity_type: str
    entity_id: str
    roi_entity_id: UUID
    kind: str
    base: str
    softpro: str
    roi: str
    result: str | None
    decisions: dict[str, dict[str, str | None]]
    status: str
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


TEXTS = ("base", "softpro", "roi", "result")
COLUMNS = sql.SQL(", ").join(
    sql.SQL("{0}::text as {0}").format(sql.Identifier(name)) if name in TEXTS else sql.Identifier(name)
    for name in Conflict.__dataclass_fields__
)


def note(
    connection: Connection,
    stream: Mapping[str, object],
    organization_id: str,
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
    """Writes a conflict down, in the place of the record's open one: open where `result` is None, else as the strategy
    has resolved it."""
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
            **stream,
            "organization_id": organization_id,
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
        resolve(connection, stream, roi_entity_id, reason)


def resolve(
    connection: Connection, stream: Mapping[str, object], roi_entity_id: UUID, reason: str | None, by: str | None = None
) -> bool:
    """Closes the record's open conflict, if it has one: by a strategy or by the sides themselves, or by a person.

    Returns whether it had one.
    """
    return bool(
        connection.execute(
            """
            update softpro.conflicts
            set status = 'RESOLVED', resolved_at = now(), updated_at = now(), reason = %(reason)s, resolved_by = %(by)s
            where integration_id = %(integration_id)s and entity_type = %(entity_type)s
              and roi_entity_id = %(roi_entity_id)s and status = 'OPEN'
            """,
            {**stream, "roi_entity_id": roi_entity_id, "reason": reason, "by": by},
        ).rowcount
    )


def get(connection: Connection, integration_id: UUID, conflict_id: UUID, *, lock: bool = False) -> Conflict:
    """One conflict of an integration; `lock`: nobody else decides about it until the transaction ends.

    Raises NotFoundHere.
    """
    query: LiteralString = "select {} from softpro.conflicts where id = %s and integration_id = %s"
    composed = sql.SQL(query + " for update" if lock else query).format(COLUMNS)
    found = (
        connection.cursor(row_factory=class_row(Conflict)).execute(composed, [conflict_id, integration_id]).fetchone()
    )
    if found is None:
        raise NotFoundHere(f"This integration has no conflict {conflict_id}")
    return found


def open_of(connection: Connection, stream: Mapping[str, Any]) -> set[UUID]:
    """Our ids of the stream's records that are in review."""
    found = connection.execute(
        """
        select roi_entity_id from softpro.conflicts
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and status = 'OPEN'
        """,
        stream,
    )
    return {row["roi_entity_id"] for row in found}
