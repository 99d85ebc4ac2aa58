"""List, show and discard the cases of the quarantine."""

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

from softpro.db import audit_log, pending, queries
from softpro.db.database import Connection
from softpro.entities import EntityType, Stream
from softpro.errors import NotFoundHere, OutOfDate, UsageError
from softpro.json_codec import camel_case
from softpro.timestamps import format_milliseconds


class Resolution(StrEnum):
    """A filter for cases: OPEN, one of three ways of closing, or ALL."""

    OPEN = "OPEN"
    LOADED = "LOADED"
    EDITED = "EDITED"
    DISCARDED = "DISCARDED"
    ALL = "ALL"


@dataclass(frozen=True)
class Case:
    """A row of `softpro.quarantine` without its payloads.

    Attributes:
        reasons: objects with `column`, `rule` and `message`.
        resolution: how the case was closed, or None while it is open.
        decisions: the decisions of users, in order, with `decision`, `by`, `at` and `reason`.
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
        """Return the case as lists show it, with times as the vendor writes them."""
        return camel_case(self, *LISTED)


LISTED = (
    *("id", "integration_id", "organization_id", "entity_type", "entity_id", "reasons", "mapping_version", "log_id"),
    *("created_at", "updated_at", "resolution", "resolved_at", "resolved_by", "resolution_reason"),
    *("edited_by", "edited_at"),
)
"""The fields of a case that a list shows."""


@dataclass(frozen=True)
class Payloads:
    """The exact bytes of a case's record: as SoftPro sent it, and as a user corrected it, if one did."""

    payload: bytes
    edited_payload: bytes | None


@dataclass(frozen=True)
class CaseFilter:
    """A filter for an integration's cases. None matches all. `column` and `rule` must match the same reason."""

    entity_type: EntityType | None = None
    column: str | None = None
    rule: str | None = None
    resolution: Resolution = Resolution.OPEN


# Rows of a release without resolutions have no resolution, or an outdated one.
RESOLUTION = "case when resolved_at is not null then coalesce(resolution, 'LOADED') end"
COLUMNS = sql.SQL(", ").join(
    sql.SQL(f"{RESOLUTION} as resolution") if name == "resolution" else sql.Identifier(name)
    for name in Case.__dataclass_fields__
)
# The record, or a user's correction of it, may be pending.
PENDING_OF_CASE = sql.SQL(
    """
    select p.ctid
    from softpro.quarantine q
    join raw.pending p on p.integration_id = q.integration_id and p.entity_type = q.entity_type
                      and p.entity_id = q.entity_id and p.payload_hash in (q.payload_hash, q.edited_hash)
    where q.id = %(id)s and q.integration_id = %(integration_id)s and q.entity_type = %(entity_type)s
    for update of p
    """
)
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
    """Return a page of the integration's matching cases, latest failure first, and the number of all such cases."""
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
    """Return one case. With `within`, only cases of these organizations are visible.

    Raises:
        NotFoundHere: the case does not exist or is not visible.
    """
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
    """Return the current payloads of the case."""
    query = "select payload, edited_payload from softpro.quarantine where id = %s and integration_id = %s"
    found = connection.cursor(row_factory=class_row(Payloads)).execute(query, [case.id, case.integration_id]).fetchone()
    assert found is not None  # cases are never deleted
    return found


def require_open(
    connection: Connection, integration_id: UUID, entity_type: EntityType, case_ids: Collection[UUID]
) -> None:
    """Check that all cases are open cases of the stream.

    Raises:
        NotFoundHere: a case is not the stream's.
        OutOfDate: a case is closed.
    """
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
            raise_closed(get(connection, row["id"]))


def discard(connection: Connection, case_id: UUID, reason: str, by: str) -> Case:
    """Close an open case whose record must not be loaded, corrected or not. Return the closed case.

    Raises:
        NotFoundHere: the case does not exist.
        UsageError: the reason is empty.
        OutOfDate: the case is closed.
    """
    if not reason.strip():
        raise UsageError("Discarding a case needs a reason: say why the record must not be loaded")
    case = get(connection, case_id)
    values = {**case.stream.parameters, "id": case.id, "by": by, "reason": reason.strip()}
    with connection.transaction():
        connection.execute(PENDING_OF_CASE, values)  # wait first: the delete must see what another run just wrote
        connection.execute(pending.clearing(PENDING_OF_CASE), values)
        discarded = connection.execute(DISCARD_CASE, values).rowcount
        case = get(connection, case_id)
        if not discarded:
            raise_closed(case)
        audit_log.record(
            connection, "case.discard", integration_id=case.integration_id, subject=case.id, after={"reason": reason}
        )
    return case


def raise_closed(case: Case) -> NoReturn:
    """Raise OutOfDate, and say how the case was closed."""
    by = f" by {case.resolved_by}" if case.resolved_by else ""
    at = f" at {format_milliseconds(case.resolved_at)}" if case.resolved_at else ""
    raise OutOfDate(f"Case {case.id} is closed: {case.resolution}{by}{at}")


def as_json_bytes(case: Case, both: Payloads) -> bytes:
    """Return the whole case as JSON on one line.

    A JSON payload is included as it was sent, with every digit and escape. Any other payload is base64.
    `payloadEncoding` says which.
    """
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
    """Return whether every JSON reader accepts the payload (RFC 8259), for any size of numbers and any escapes."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        json.loads(payload.decode(), parse_int=str, parse_float=str, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _raw(payload: bytes) -> msgspec.Raw:
    """Return JSON without line breaks, which occur only between tokens."""
    return msgspec.Raw(payload.replace(b"\r", b" ").replace(b"\n", b" "))
