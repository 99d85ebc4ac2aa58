"""Holds what SoftPro's records hold against what a stream's mappings read: fields that nobody reads, fields that are
read and are not there, and what is new."""

from __future__ import annotations

import re
from collections.abc import Mapping as Dict
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg.rows import class_row

from softpro.analysis.field_profile import IDENTIFIER, OTHER_NAME
from softpro.db.database import Connection
from softpro.db.integrations import Integration
from softpro.entities import EntityType, Stream
from softpro.mapping import repository
from softpro.mapping.dependencies import Reads, reads, without_places
from softpro.softpro360.contract import ID_FIELDS
from softpro.timestamps import format_milliseconds

EXPECTED_AT_LEAST = 20
"""A field counts as gone once so many records should have held it, by how often it stood in them, and none did."""


@dataclass(frozen=True)
class Field:
    """A row of `softpro.seen_fields`."""

    path: str
    kinds: list[str]
    records: int
    of_records: int
    first_seen_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True)
class Value:
    """A row of `softpro.seen_values`: a code."""

    path: str
    value: str
    records: int
    first_seen_at: datetime


@dataclass(frozen=True)
class Coverage:
    """A stream's: of so many `records` that were looked at.

    `unread`: fields that no mapping reads. `missing`: paths that one reads, and when they were last seen, None: never.
    `new_fields`, `new_values`: first seen after the baseline.
    """

    integration: Integration
    entity_type: EntityType
    records: int
    refreshed_at: datetime | None
    baseline_at: datetime | None
    reads: Reads
    unread: list[Field]
    missing: dict[str, datetime | None]
    new_fields: list[Field]
    new_values: list[Value]

    def read(self, path: str) -> str:
        """Whether a mapping reads the path: YES, NO, or MAYBE, where a rule takes the whole record."""
        return "YES" if path in self.reads else "MAYBE" if self.reads.anything else "NO"

    def as_json(self) -> dict[str, Any]:
        return {
            "integrationId": str(self.integration.id),
            "organizationId": self.integration.organization_id,
            "entityType": self.entity_type.value,
            "records": self.records,
            "refreshedAt": _format(self.refreshed_at),
            "baselineAt": _format(self.baseline_at),
            "unread": [self._field(field) for field in self.unread],
            "missing": [{"path": path, "lastSeenAt": _format(seen)} for path, seen in self.missing.items()],
            "newFields": [self._field(field) for field in self.new_fields],
            "newValues": [
                {
                    "path": value.path,
                    "value": value.value,
                    "records": value.records,
                    "firstSeenAt": _format(value.first_seen_at),
                }
                for value in self.new_values
            ],
        }

    def _field(self, field: Field) -> dict[str, Any]:
        return {
            "path": field.path,
            "kinds": field.kinds,
            "records": field.records,
            "firstSeenAt": _format(field.first_seen_at),
            "lastSeenAt": _format(field.last_seen_at),
            "read": self.read(field.path),
        }


def coverage(connection: Connection, integration: Integration, entity_type: EntityType) -> Coverage:
    """The stream's coverage, as of its last refresh, by the mappings in force."""
    stream = integration.stream(entity_type)
    state = connection.execute(
        """
        select records, refreshed_at, baseline_at from softpro.coverage
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
        """,
        stream.parameters,
    ).fetchone() or {"records": 0, "refreshed_at": None, "baseline_at": None}
    fields = {field.path: field for field in _fields(connection, stream)}
    by_mappings = reads(repository.current(connection, integration.stream(entity_type)).mappings)
    # The product itself reads the id and these times, whatever the mappings say.
    own = {ID_FIELDS[entity_type], "createdAt", "updatedAt"}
    by_anybody = replace(by_mappings, paths=by_mappings.paths | own)
    ends = [field for field in fields.values() if not _goes_on(field.path, fields)]
    baseline_at = state["baseline_at"]
    return Coverage(
        integration,
        entity_type,
        **state,
        reads=by_anybody,
        unread=[field for field in ends if field.path not in by_anybody],
        missing=_missing(by_mappings, fields, state["records"]),
        new_fields=[field for field in ends if baseline_at and field.first_seen_at >= baseline_at],
        new_values=_new_values(connection, stream, baseline_at),
    )


def _fields(connection: Connection, stream: Stream) -> list[Field]:
    query = """
        select path, kinds, records, of_records, first_seen_at, last_seen_at
        from softpro.seen_fields
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
        order by path
    """
    return connection.cursor(row_factory=class_row(Field)).execute(query, stream.parameters).fetchall()


def _new_values(connection: Connection, stream: Stream, baseline_at: datetime | None) -> list[Value]:
    query = """
        select path, value, records, first_seen_at
        from softpro.seen_values
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and first_seen_at >= %(baseline)s
        order by path, value
    """
    parameters = {**stream.parameters, "baseline": baseline_at}
    return connection.cursor(row_factory=class_row(Value)).execute(query, parameters).fetchall()


def _missing(by_mappings: Reads, fields: Dict[str, Field], records: int) -> dict[str, datetime | None]:
    if not records:
        return {}
    by_name = {without_places(path): field for path, field in fields.items()}
    wanted = {path: fields.get(_as_seen(path)) for path in by_mappings.paths}
    wanted |= {path: by_name.get(path) for path in by_mappings.named - by_mappings.paths}
    found: dict[str, datetime | None] = {}
    for path, field in sorted(wanted.items(), key=lambda each: each[0]):
        if field is None:
            found[path] = None
        elif (records - field.of_records) * field.records >= EXPECTED_AT_LEAST * field.of_records:
            found[path] = field.last_seen_at
    return found


def _as_seen(path: str) -> str:
    """The path as it is kept: names that are no identifiers are not."""
    names = [name.partition("[") for name in path.split(".")]
    return ".".join(
        (name if re.fullmatch(IDENTIFIER, name) else OTHER_NAME) + bracket + rest for name, bracket, rest in names
    )


def _goes_on(path: str, fields: Dict[str, Field]) -> bool:
    return any(other.startswith((f"{path}.", f"{path}[")) for other in fields)


def _format(moment: datetime | None) -> str | None:
    return format_milliseconds(moment) if moment else None
