"""Store an organization's mapping sets, and keep every earlier set as a version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from softpro.db import audit_log, queries
from softpro.db.database import Connection
from softpro.entities import EntityType, Stream
from softpro.errors import NotFoundHere, VersionConflict
from softpro.json_codec import camel_case
from softpro.mapping.defaults import default_mappings
from softpro.mapping.diff import Diff, diff, identical
from softpro.mapping.mapping import Mapping
from softpro.mapping.proposal_validation import require_valid
from softpro.mapping.upsert import Upsert, upsert, whole_set

MAX_UPDATES = 3
"""Attempts of an update whose set another request changes at the same time."""


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
    """The version now in force.

    Attributes:
        version: its number.
        changed: False if the set was already in force and no version was created.
        difference: what changed. It is empty if only the order did.
    """

    version: int
    changed: bool
    difference: Diff = field(default_factory=lambda: Diff([], [], []), compare=False)


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
    require_valid(connection, whole_set(mappings))
    return _save(connection, integration_id, organization_id, mappings, author, expected or {})


def update(
    connection: Connection,
    integration_id: UUID,
    organization_id: str,
    mappings: Sequence[Mapping],
    author: str,
    expected: Dict[EntityType, int] | None = None,
) -> dict[EntityType, Replaced]:
    """Update the sets in force by some mappings, all or none: see `upsert`.

    Arguments and results are those of `replace`. A set that another request changes at the same time is read again.

    Raises:
        MappingError: the mappings are invalid, or one of them can mean several stored ones.
        VersionConflict: another version is in force.
    """
    expected, attempts = expected or {}, 0
    while True:
        in_force = _current_sets(connection, integration_id, organization_id, mappings)
        updated = _updated(in_force.values(), mappings)
        require_valid(connection, updated)
        read = {entity_type: each.version or 0 for entity_type, each in in_force.items()}
        try:
            return _save(connection, integration_id, organization_id, updated.mappings, author, {**read, **expected})
        except VersionConflict as conflict:
            attempts += 1
            if conflict.entity_type in expected or attempts >= MAX_UPDATES:
                raise


def proposal(
    connection: Connection, integration_id: UUID, organization_id: str, mappings: Sequence[Mapping], *, replace: bool
) -> Upsert:
    """Return the valid sets that `replace` or `update` would save.

    Raises:
        MappingError: the mappings are invalid, or one of them can mean several stored ones.
    """
    if replace:
        proposed = whole_set(mappings)
    else:
        proposed = _updated(_current_sets(connection, integration_id, organization_id, mappings).values(), mappings)
    require_valid(connection, proposed)
    return proposed


def _updated(in_force: Iterable[MappingSet], mappings: Sequence[Mapping]) -> Upsert:
    return upsert([mapping for each in in_force for mapping in each.mappings], mappings)


def _current_sets(
    connection: Connection, integration_id: UUID, organization_id: str, mappings: Iterable[Mapping]
) -> dict[EntityType, MappingSet]:
    """Return the sets in force of the entity types that occur in `mappings`."""
    return {
        entity_type: current(connection, Stream(integration_id, organization_id, entity_type))
        for entity_type in dict.fromkeys(mapping.entity_type for mapping in mappings)
    }


def _save(
    connection: Connection,
    integration_id: UUID,
    organization_id: str,
    mappings: Sequence[Mapping],
    author: str,
    expected: Dict[EntityType, int],
) -> dict[EntityType, Replaced]:
    by_type: dict[EntityType, list[Mapping]] = {}
    for mapping in mappings:
        by_type.setdefault(mapping.entity_type, []).append(mapping)
    with connection.transaction():
        _lock(connection, integration_id)
        for entity_type, number in expected.items():
            _require_version(connection, Stream(integration_id, organization_id, entity_type), number)
        return {
            entity_type: _replace_set(connection, Stream(integration_id, organization_id, entity_type), of_type, author)
            for entity_type, of_type in by_type.items()
        }


def difference(in_force: Dict[EntityType, Replaced]) -> Diff:
    """Return what a change added, removed and changed in all sets together."""
    found = [each.difference for each in in_force.values()]
    return Diff(
        [mapping for each in found for mapping in each.added],
        [mapping for each in found for mapping in each.removed],
        [changed for each in found for changed in each.changed],
    )


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
        require_valid(connection, whole_set(earlier))
        return _replace_set(connection, stream, earlier, author, restores=number)


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
    return Replaced(created["version"], changed=True, difference=diff(before.mappings, mappings))


def _row(mapping: Mapping) -> Dict[str, Any]:
    rule, validation = mapping.transformation_rule, mapping.validation_rules
    return {
        **asdict(mapping),
        "rule": Jsonb(rule) if rule is not None else None,
        "validation": Jsonb(validation) if validation is not None else None,
    }
