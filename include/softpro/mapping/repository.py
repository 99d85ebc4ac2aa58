"""Store an organization's mapping sets. A set is replaced as a whole, and every earlier set is kept as a version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from softpro.db import audit_log, queries
from softpro.db.database import Connection
from softpro.entities import EntityType, Stream
from softpro.errors import MappingError, NotFoundHere, VersionConflict
from softpro.json_codec import camel_case
from softpro.mapping import patterns
from softpro.mapping.defaults import default_mappings
from softpro.mapping.diff import identical
from softpro.mapping.mapping import Mapping
from softpro.mapping.set_validation import validate

PATTERN_TIMEOUT = "1s"
"""How long PostgreSQL may take to read a pattern."""


@dataclass(frozen=True)
class StoredMapping:
    """A mapping with the id of its row."""

    id: UUID
    mapping: Mapping


@dataclass(frozen=True)
class MappingSet:
    """The set of a stream that is in force. `version` is None for a stream that never had one."""

    version: int | None
    mappings: list[Mapping]


@dataclass(frozen=True)
class Version:
    """A set that is or was in force.

    Attributes:
        author: the user who created it.
        restores: the version that it is a copy of, if any.
        size: the number of its mappings.
    """

    version: int
    author: str
    created_at: datetime
    restores: int | None
    size: int

    def as_json(self, entity_type: EntityType) -> dict[str, Any]:
        """Return the version as the command line and HTTP show it."""
        shown = camel_case(self, "version", "author", "created_at", "restores")
        return {"entityType": entity_type.value, **shown, "mappingCount": self.size}


VERSION_COLUMNS = sql.SQL("version, author, created_at, restores, jsonb_array_length(mappings) as size")


@dataclass(frozen=True)
class Replaced:
    """The version now in force. `changed` is False if the set was already in force and no version was created."""

    version: int
    changed: bool


def read(connection: Connection, integration_id: UUID, entity_type: EntityType | None = None) -> list[StoredMapping]:
    """Return the integration's mappings in the order they were given, of one entity type or of all."""
    rows = connection.execute(
        """
        select id, entity_type, softpro_field, roi_systems_field, direction, transformation_rule, required,
               default_value, enabled, validation_rules
        from softpro.mappings
        where integration_id = %(integration)s
          and entity_type = coalesce(%(entity_type)s, entity_type) and entity_type = any(%(known)s)
        order by entity_type, position
        """,
        {
            "integration": integration_id,
            "entity_type": entity_type.value if entity_type else None,
            "known": [known.value for known in EntityType],
        },
    ).fetchall()
    return [
        StoredMapping(row.pop("id"), Mapping(**{**row, "entity_type": EntityType(row["entity_type"])})) for row in rows
    ]


def current(connection: Connection, stream: Stream) -> MappingSet:
    """Return the stream's set and its version, read in one query."""
    rows = connection.execute(
        """
        select (select max(version) from softpro.mapping_versions v
                where v.integration_id = m.integration_id and v.entity_type = m.entity_type) as version,
               softpro_field, roi_systems_field, direction, transformation_rule, required, default_value, enabled,
               validation_rules
        from softpro.mappings m
        where integration_id = %s and entity_type = %s
        order by position
        """,
        [stream.integration_id, stream.entity_type.value],
    ).fetchall()
    number = next((row["version"] for row in rows), None)
    return MappingSet(
        number, [Mapping(stream.entity_type, **{k: v for k, v in row.items() if k != "version"}) for row in rows]
    )


def replace(
    connection: Connection,
    integration_id: UUID,
    organization_id: str,
    mappings: Sequence[Mapping],
    author: str,
    expected: Dict[EntityType, int] | None = None,
) -> dict[EntityType, Replaced]:
    """Replace the set of each entity type that occurs in `mappings`, or nothing.

    A set that is already in force, in the same order, creates no new version, so sending it again changes nothing.

    Args:
        connection: a database connection.
        integration_id: the integration.
        organization_id: its organization.
        mappings: the new sets.
        author: the user, for the version.
        expected: the version that the caller read of each entity type, 0 for none.

    Raises:
        MappingError: the mappings are invalid.
        VersionConflict: another version is in force.
    """
    require_valid(connection, mappings)
    by_type: dict[EntityType, list[Mapping]] = {}
    for mapping in mappings:
        by_type.setdefault(mapping.entity_type, []).append(mapping)
    with connection.transaction():
        _lock(connection, integration_id)
        for entity_type, number in (expected or {}).items():
            _require_version(connection, Stream(integration_id, organization_id, entity_type), number)
        return {
            entity_type: _replace_set(connection, Stream(integration_id, organization_id, entity_type), of_type, author)
            for entity_type, of_type in by_type.items()
        }


def ensure_defaults(
    connection: Connection, integration_id: UUID, organization_id: str, entity_types: Iterable[EntityType]
) -> None:
    """Give the default set to each entity type that has no mapping yet."""
    for entity_type in entity_types:
        if not read(connection, integration_id, entity_type):
            replace(connection, integration_id, organization_id, default_mappings(entity_type), "softpro")


def versions(connection: Connection, stream: Stream, limit: int, offset: int) -> tuple[list[Version], int]:
    """Return a page of the stream's versions, latest first, and the number of all versions."""
    return queries.page(
        connection,
        Version,
        columns=VERSION_COLUMNS,
        source="softpro.mapping_versions where integration_id = %(integration_id)s and entity_type = %(entity_type)s",
        order="version desc",
        parameters=stream.parameters,
        limit=limit,
        offset=offset,
    )


def version(connection: Connection, stream: Stream, number: int) -> tuple[Version, list[Mapping]]:
    """Return one version of the stream's set, and its mappings.

    Raises:
        NotFoundHere: the version does not exist.
    """
    row = connection.execute(
        """
        select version, author, created_at, restores, jsonb_array_length(mappings) as size, mappings
        from softpro.mapping_versions
        where integration_id = %s and entity_type = %s and version = %s
        """,
        [stream.integration_id, stream.entity_type.value, number],
    ).fetchone()
    if row is None:
        raise NotFoundHere(f"The mappings of {stream.entity_type.table} have no version {number}")
    mappings = [Mapping(**{**each, "entity_type": EntityType(each["entity_type"])}) for each in row.pop("mappings")]
    return Version(**row), mappings


def restore(
    connection: Connection,
    stream: Stream,
    number: int,
    author: str,
) -> Replaced:
    """Create a new version that is a copy of an earlier one, unless that is already in force.

    Raises:
        NotFoundHere: the earlier version does not exist.
        MappingError: the earlier version would be refused today.
    """
    with connection.transaction():
        _lock(connection, stream.integration_id)
        _, earlier = version(connection, stream, number)
        require_valid(connection, earlier)
        return _replace_set(connection, stream, earlier, author, restores=number)


def require_valid(connection: Connection, mappings: Sequence[Mapping]) -> None:
    """Validate a set, including its patterns, which PostgreSQL has to be able to read.

    Raises:
        MappingError: with every problem of the set.
    """
    problems: list[str] = []
    try:
        validate(mappings)
    except MappingError as refused:
        problems = refused.problems
    problems = [*problems, *_unreadable(connection, mappings)]
    if problems:
        raise MappingError(problems)


def _unreadable(connection: Connection, mappings: Sequence[Mapping]) -> list[str]:
    """Return the problems that PostgreSQL has with the patterns of the validation rules."""
    problems: list[str] = []
    for number, mapping in enumerate(mappings, start=1):
        pattern = (mapping.validation_rules or {}).get("pattern")
        if not isinstance(pattern, str) or patterns.problem(pattern):  # already reported
            continue
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("select set_config('statement_timeout', %s, true)", [PATTERN_TIMEOUT])
                connection.execute("select '' ~ %s", [pattern])
        except psycopg.errors.QueryCanceled:
            problems.append(f"mapping {number}: validationRules.pattern takes PostgreSQL too long to read")
        except UnicodeEncodeError:  # half a surrogate pair, already reported
            continue
        except psycopg.DataError as wrong:
            why = str(wrong).splitlines()[0]
            problems.append(f"mapping {number}: validationRules.pattern can't be read by PostgreSQL: {why}")
    return problems


def _lock(connection: Connection, integration_id: UUID) -> None:
    connection.execute("select from softpro.integrations where id = %s for no key update", [integration_id])


def _require_version(connection: Connection, stream: Stream, expected: int) -> None:
    in_force = current(connection, stream).version
    if (in_force or 0) != expected:
        raise VersionConflict(stream.entity_type.value, expected, in_force)


def _replace_set(
    connection: Connection,
    stream: Stream,
    mappings: Sequence[Mapping],
    author: str,
    restores: int | None = None,
) -> Replaced:
    before = current(connection, stream)
    if before.version is not None and identical(before.mappings, mappings):
        return Replaced(before.version, changed=False)
    connection.execute(
        "delete from softpro.mappings where integration_id = %(integration_id)s and entity_type = %(entity_type)s",
        stream.parameters,
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into softpro.mappings
                (integration_id, organization_id, entity_type, softpro_field, roi_systems_field, direction,
                 transformation_rule, required, default_value, enabled, validation_rules, position)
            values (%(integration_id)s, %(organization_id)s, %(entity_type)s, %(softpro_field)s, %(roi_systems_field)s,
                    %(direction)s, %(rule)s, %(required)s, %(default_value)s, %(enabled)s, %(validation)s, %(position)s)
            """,
            [{**_row(mapping), **stream.parameters, "position": position} for position, mapping in enumerate(mappings)],
        )
    created = queries.one(
        connection,
        """
        insert into softpro.mapping_versions
            (integration_id, organization_id, entity_type, version, author, mappings, restores)
        select %(integration_id)s, %(organization_id)s, %(entity_type)s, coalesce(max(version), 0) + 1, %(author)s,
               %(set)s, %(restores)s
        from softpro.mapping_versions
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
        returning version
        """,
        {
            **stream.parameters,
            "author": author,
            "set": Jsonb([asdict(mapping) for mapping in mappings]),
            "restores": restores,
        },
    )
    audit_log.record(
        connection,
        "mappings.replace" if restores is None else "mappings.rollback",
        integration_id=stream.integration_id,
        subject=stream.entity_type.value,
        before={"version": before.version, "mappings": len(before.mappings)},
        after={"version": created["version"], "mappings": len(mappings)},
    )
    return Replaced(created["version"], changed=True)


def _row(mapping: Mapping) -> Dict[str, Any]:
    rule, validation = mapping.transformation_rule, mapping.validation_rules
    return {
        **asdict(mapping),
        "rule": Jsonb(rule) if rule is not None else None,
        "validation": Jsonb(validation) if validation is not None else None,
    }
