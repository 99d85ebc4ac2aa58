"""Compare the fields of SoftPro's records with those that a stream's mappings read.

It finds fields that no mapping reads, mapped fields that are missing, and new fields and values.
"""

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
from softpro.json_codec import camel_case
from softpro.mapping import repository
from softpro.mapping.dependencies import ReadPaths, read_paths, without_indexes
from softpro.softpro360.contract import ID_FIELDS
from softpro.timestamps import format_milliseconds

MIN_EXPECTED_RECORDS = 20
"""A field counts as missing once this many records should have held it, by its past frequency, and none did."""


@dataclass(frozen=True)
class Field:
    """A row of `softpro.seen_fields`: a field that records hold."""

    path: str
    kinds: list[str]
    records: int
    of_records: int
    first_seen_at: datetime
    last_seen_at: datetime


@dataclass(frozen=True)
class Value:
    """A row of `softpro.seen_values`: a code that a field holds."""

    path: str
    value: str
    records: int
    first_seen_at: datetime


@dataclass(frozen=True)
class Coverage:
    """The coverage of a stream's records by its mappings.

    Attributes:
        records: the number of records examined.
        unread: fields that no mapping reads.
        missing: paths that a mapping reads, and when they were last seen; None for never.
        new_fields: fields first seen after the baseline.
        new_values: codes first seen after the baseline.
    """

    integration: Integration
    entity_type: EntityType
    records: int
    refreshed_at: datetime | None
    baseline_at: datetime | None
    reads: ReadPaths
    unread: list[Field]
    missing: dict[str, datetime | None]
    new_fields: list[Field]
    new_values: list[Value]

    def read(self, path: str) -> str:
        """Return whether a mapping reads the path: YES, NO, or MAYBE if a rule takes the whole record."""
        return "YES" if path in self.reads else "MAYBE" if self.reads.anything else "NO"

    def as_json(self) -> dict[str, Any]:
        return {
            "integrationId": str(self.integration.id),
            "organizationId": self.integration.organization_id,
            **camel_case(self, "entity_type", "records", "refreshed_at", "baseline_at"),
            "unread": [self._field(field) for field in self.unread],
            "missing": [
                {"path": path, "lastSeenAt": format_milliseconds(seen) if seen else None}
                for path, seen in self.missing.items()
            ],
            "newFields": [self._field(field) for field in self.new_fields],
            "newValues": [camel_case(value) for value in self.new_values],
        }

    def _field(self, field: Field) -> dict[str, Any]:
        shown = camel_case(field, "path", "kinds", "records", "first_seen_at", "last_seen_at")
        return {**shown, "read": self.read(field.path)}


def coverage(connection: Connection, integration: Integration, entity_type: EntityType) -> Coverage:
    """Return the stream's coverage as of its last refresh, by the mappings in force."""
    stream = integration.stream(entity_type)
    state = connection.execute(
        """
        select records, refreshed_at, baseline_at from softpro.coverage
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
        """,
        stream.parameters,
    ).fetchone() or {"records": 0, "refreshed_at": None, "baseline_at": None}
    fields = {field.path: field for field in _fields(connection, stream)}
    by_mappings = read_paths(repository.current(connection, integration.stream(entity_type)).mappings)
    # The product itself reads the id and these times, independent of the mappings.
    own = {ID_FIELDS[entity_type], "createdAt", "updatedAt"}
    by_product_and_mappings = replace(by_mappings, paths=by_mappings.paths | own)
    ends = [field for field in fields.values() if not _has_children(field.path, fields)]
    baseline_at = state["baseline_at"]
    return Coverage(
        integration,
        entity_type,
        **state,
        reads=by_product_and_mappings,
        unread=[field for field in ends if field.path not in by_product_and_mappings],
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


def _missing(by_mappings: ReadPaths, fields: Dict[str, Field], records: int) -> dict[str, datetime | None]:
    if not records:
        return {}
    by_name = {without_indexes(path): field for path, field in fields.items()}
    wanted = {path: fields.get(_as_seen(path)) for path in by_mappings.paths}
    wanted |= {path: by_name.get(path) for path in by_mappings.named - by_mappings.paths}
    found: dict[str, datetime | None] = {}
    for path, field in sorted(wanted.items(), key=lambda each: each[0]):
        if field is None:
            found[path] = None
        elif (records - field.of_records) * field.records >= MIN_EXPECTED_RECORDS * field.of_records:
            found[path] = field.last_seen_at
    return found


def _as_seen(path: str) -> str:
    """Return the path as it is stored: names that are no identifiers are replaced."""
    names = [name.partition("[") for name in path.split(".")]
    return ".".join(
        (name if re.fullmatch(IDENTIFIER, name) else OTHER_NAME) + bracket + rest for name, bracket, rest in names
    )


def _has_children(path: str, fields: Dict[str, Field]) -> bool:
    return any(other.startswith((f"{path}.", f"{path}[")) for other in fields)
