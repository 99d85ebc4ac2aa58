"""The quarantine's cases as people work on them: listed, looked at, discarded."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NoReturn
from uuid import UUID

import msgspec
from psycopg import sql
from psycopg.rows import class_row

from softpro.db import queries
from softpro.db.database import Connection
from softpro.entities import EntityType, Stream
from softpro.errors import NotFoundHere, OutOfDate, UsageError
from softpro.timestamps import format_milliseconds


class Resolution(StrEnum):
    """What to list cases by: OPEN ones, those that were closed in one of three ways, or ALL."""

    OPEN = "OPEN"
    LOADED = "LOADED"
    EDITED = "EDITED"
    DISCARDED = "DISCARDED"
    ALL = "ALL"


@dataclass(frozen=True)
class Case:
    """One row of `softpro.quarantine` without its payloads. `resolution` is None while it is open.

    `reasons`: a list of `column`, `rule`, `message`. `decisions`: what people decided, in order, as `decision`, `by`,
    `at`, `reason`.
    """

    id: UUID
    integration_id: UUID
    organization_id: str
    entity_type: str
    record_key: str
    entity_id: str | None
    payload_hash: bytes
    reasons: list[dict[str, Any]]
    mapping_version: int | None
    log_id: UUID
    created_at: datetime
    updated_at: datetime
    resolution: str | None
    resolved_at: datetime | None
    resolved_by: str | None
    resolution_reason: str | None
    edited_hash: bytes | None
    edited_by: str | None
    edited_at: datetime | None
    decisions: list[dict[str, Any]]

    @property
    def stream(self) -> Stream:
        """Return the stream that the case belongs to."""
        return Stream.of_row(self.integration_id, self.organization_id, self.entity_type)

    def as_json(self) -> dict[str, Any]:
        """What a list shows of it; times as the vendor writes them."""
        return {
            "id": str(self.id),
            "integrationId": str(self.integration_id),
            "organizationId": self.organization_id,
            "entityType": self.entity_type,
            "entityId": self.entity_id,
            "reasons": self.reasons,
            "mappingVersion": self.mapping_version,
            "logId": str(self.log_id),
            "createdAt": format_milliseconds(self.created_at),
            "updatedAt": format_milliseconds(self.updated_at),
            "resolution": self.resolution,
            "resolvedAt": format_milliseconds(self.resolved_at) if self.resolved_at else None,
            "resolvedBy": self.resolved_by,
            "resolutionReason": self.resolution_reason,
            "editedBy": self.edited_by,
            "editedAt": format_milliseconds(self.edited_at) if self.edited_at else None,
        }


@dataclass(frozen=True)
class Payloads:
    """A case's record byte for byte: as SoftPro sent it, and as a person corrected it, if one did."""

    payload: bytes
    edited_payload: bytes | None


@dataclass(frozen=True)
class CaseFilter:
    """Which cases of an integration to list; None leaves all in. `column` and `rule` are of one and the same reason."""

    entity_type: EntityType | None = None
    column: str | None = None
    rule: str | None = None
    resolution: Resolution = Resolution.OPEN


# One that a process from before there were resolutions closed or opened has an older one, or none.
RESOLUTION = "case when resolved_at is not null then coalesce(resolution, 'LOADED') end"
COLUMNS = sql.SQL(", ").join(
    sql.SQL(f"{RESOLUTION} as resolution") if name == "resolution" else sql.Identifier(name)
    for name in Case.__dataclass_fields__
)
# Its record, or a person's correction of it, may be waiting to be loaded.
CLEAR_PENDING = """
delete from raw.pending p
using softpro.quarantine q
where q.id = %(id)s and q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s
  and p.integration_id = q.integration_id and p.entity_type = q.entity_type and p.entity_id = q.entity_id
  and p.payload_hash in (q.payload_hash, q.edited_hash)
"""
DISCARD_CASE = """
update softpro.quarantine
set resolved_at = now(), updated_at = now(), resolution = 'DISCARDED', resolved_by = %(by)s,
    resolution_reason = %(reason)s,
    decisions = decisions || softpro.decision('DISCARD', %(by)s, %(reason)s)
where id = %(id)s and integration_id = %(integration_id)s and entity_type = %(entity_type)s and resolved_at is null
"""


def page(
    connection: Connection, integration_id: UUID, wanted: CaseFilter, limit: int, offset: int
) -> tuple[list[Case], int]:
    """The integration's cases of that kind, the one that failed last first, and how many there are in all."""
    conditions, parameters = _conditions(integration_id, wanted)
    return queries.page(
        connection,
        Case,
        columns=COLUMNS,
        source=sql.SQL("softpro.quarantine where {}").format(conditions),
        order="updated_at desc, id",
        parameters=parameters,
        limit=limit,
        offset=offset,
    )


def get(connection: Connection, case_id: UUID, within: Collection[str] | None = None) -> Case:
    """One case; those of organizations not `within` do not exist. Raises NotFoundHere."""
    query = sql.SQL(
        """
        select {} from softpro.quarantine
        where id = %(id)s and (%(within)s::text[] is null or organization_id = any(%(within)s))
        """
    ).format(COLUMNS)
    parameters = {"id": case_id, "within": None if within is None else list(within)}
    found = connection.cursor(row_factory=class_row(Case)).execute(query, parameters).fetchone()
    if found is None:
        raise NotFoundHere(f"The quarantine has no case {case_id}")
    return found


def payloads(connection: Connection, case: Case) -> Payloads:
    """The case's record as it stands there now."""
    query = "select payload, edited_payload from softpro.quarantine where id = %s and integration_id = %s"
    found = connection.cursor(row_factory=class_row(Payloads)).execute(query, [case.id, case.integration_id]).fetchone()
    assert found is not None  # cases are never deleted
    return found


def require_open(
    connection: Connection, integration_id: UUID, entity_type: EntityType, case_ids: Collection[UUID]
) -> None:
    """Raises NotFoundHere where one of the cases is not the stream's, OutOfDate where one is closed."""
    found = connection.execute(
        """
        select id, resolved_at is null as open
        from softpro.quarantine
        where integration_id = %s and entity_type = %s and id = any(%s)
        """,
        [integration_id, entity_type.value, list(case_ids)],
    ).fetchall()
    unknown = set(case_ids) - {row["id"] for row in found}
    if unknown:
        raise NotFoundHere(f"The quarantine of these {entity_type.table} has no case {', '.join(map(str, unknown))}")
    for row in found:
        if not row["open"]:
            closed(get(connection, row["id"]))


def discard(connection: Connection, case_id: UUID, reason: str, by: str) -> Case:
    """Closes an open case whose record is not to be loaded, nor a correction of it. Returns it as it stands then.

    Raises NotFoundHere, UsageError without a reason, OutOfDate where it is closed.
    """
    if not reason.strip():
        raise UsageError("A case is discarded for a reason: say why the record is not to be loaded")
    case = get(connection, case_id)
    values = {**case.stream.parameters, "id": case.id, "by": by, "reason": reason.strip()}
    with connection.transaction():
        connection.execute(CLEAR_PENDING, values)
        discarded = connection.execute(DISCARD_CASE, values).rowcount
        case = get(connection, case_id)
        if not discarded:
            closed(case)
    return case


def closed(case: Case) -> NoReturn:
    """Raises OutOfDate, with how the case was closed."""
    by = f" by {case.resolved_by}" if case.resolved_by else ""
    at = f" at {format_milliseconds(case.resolved_at)}" if case.resolved_at else ""
    raise OutOfDate(f"Case {case.id} is closed: {case.resolution}{by}{at}")


def shown(case: Case, both: Payloads) -> bytes:
    """All of a case as JSON on one line. A payload that is JSON stands in it as it was sent, every digit and escape of
    it; another one as base64: `payloadEncoding` says which."""
    is_json = _is_json(both.payload)
    return msgspec.json.encode(
        {
            **case.as_json(),
            "decisions": case.decisions,
            "payloadEncoding": "json" if is_json else "base64",
            "payload": _raw(both.payload) if is_json else b64encode(both.payload).decode(),
            "editedPayload": None if both.edited_payload is None else _raw(both.edited_payload),
        }
    )


def _conditions(integration_id: UUID, wanted: CaseFilter) -> tuple[sql.Composable, dict[str, object]]:
    conditions: list[sql.Composable] = [sql.SQL("integration_id = %(integration_id)s")]
    parameters: dict[str, object] = {"integration_id": integration_id}
    if wanted.entity_type is not None:
        conditions.append(sql.SQL("entity_type = %(entity_type)s"))
        parameters["entity_type"] = wanted.entity_type.value
    reason = {name: value for name, value in (("column", wanted.column), ("rule", wanted.rule)) if value is not None}
    if reason:
        conditions.append(sql.SQL("reasons @> %(reasons)s::jsonb"))
        parameters["reasons"] = json.dumps([reason])
    if wanted.resolution is Resolution.OPEN:
        conditions.append(sql.SQL("resolved_at is null"))
    elif wanted.resolution is not Resolution.ALL:
        conditions.append(sql.SQL(f"{RESOLUTION} = %(resolution)s"))
        parameters["resolution"] = wanted.resolution.value
    return sql.SQL(" and ").join(conditions), parameters


def _is_json(payload: bytes) -> bool:
    """Whether any reader of JSON takes it (RFC 8259), whatever its numbers and however they are escaped its texts."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        json.loads(payload.decode(), parse_int=str, parse_float=str, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _raw(payload: bytes) -> msgspec.Raw:
    """JSON as it is but for line breaks, which in JSON stand only between tokens."""
    return msgspec.Raw(payload.replace(b"\r", b" ").replace(b"\n", b" "))
