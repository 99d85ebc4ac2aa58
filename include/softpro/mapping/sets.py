"""An organization's mapping sets in the database. A set is replaced as a whole, and every set that stood is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from softpro.entities import EntityType
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.mapping.validate import validate
from softpro.store.database import Connection


@dataclass(frozen=True)
class StoredMapping:
    """A mapping and the id of its row."""

    id: UUID
    mapping: Mapping


def read(connection: Connection, integration_id: UUID, entity_type: EntityType | None = None) -> list[StoredMapping]:
    """The integration's mappings, of all entity types or of one, in the order they were given."""
    rows = connection.execute(
        """
        select id, entity_type, softpro_field, roi_systems_field, direction, transformation_rule, required,
               default_value, enabled
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


def replace(
    connection: Connection, integration_id: UUID, organization_id: str, mappings: Sequence[Mapping], author: str
) -> None:
    """Replaces the set of each entity type that occurs in `mappings`; all of it, or nothing. Raises MappingError."""
    validate(mappings)
    by_type: dict[EntityType, list[Mapping]] = {}
    for mapping in mappings:
        by_type.setdefault(mapping.entity_type, []).append(mapping)
    with connection.transaction():
        connection.execute("select from softpro.integrations where id = %s for update", [integration_id])
        for entity_type, of_type in by_type.items():
            _replace_set(connection, integration_id, organization_id, entity_type, of_type, author)


def ensure_defaults(
    connection: Connection, integration_id: UUID, organization_id: str, entity_types: Iterable[EntityType]
) -> None:
    """Gives the default set to each entity type that has no mapping yet."""
    for entity_type in entity_types:
        if not read(connection, integration_id, entity_type):
            replace(connection, integration_id, organization_id, default_mappings(entity_type), "softpro")


def _replace_set(
    connection: Connection,
    integration_id: UUID,
    organization_id: str,
    entity_type: EntityType,
    mappings: Sequence[Mapping],
    author: str,
) -> None:
    stream = {"integration": integration_id, "organization": organization_id, "entity_type": entity_type.value}
    connection.execute(
        "delete from softpro.mappings where integration_id = %(integration)s and entity_type = %(entity_type)s", stream
    )
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into softpro.mappings
                (integration_id, organization_id, entity_type, softpro_field, roi_systems_field, direction,
                 transformation_rule, required, default_value, enabled, position)
            values (%(integration)s, %(organization)s, %(entity_type)s, %(softpro_field)s, %(roi_systems_field)s,
                    %(direction)s, %(rule)s, %(required)s, %(default_value)s, %(enabled)s, %(position)s)
            """,
            [{**_row(mapping), **stream, "position": position} for position, mapping in enumerate(mappings)],
        )
    connection.execute(
        """
        insert into softpro.mapping_versions (integration_id, organization_id, entity_type, version, author, mappings)
        select %(integration)s, %(organization)s, %(entity_type)s, coalesce(max(version), 0) + 1, %(author)s, %(set)s
        from softpro.mapping_versions
        where integration_id = %(integration)s and entity_type = %(entity_type)s
        """,
        {**stream, "author": author, "set": Jsonb([asdict(mapping) for mapping in mappings])},
    )


def _row(mapping: Mapping) -> Dict[str, Any]:
    rule = mapping.transformation_rule
    return {**asdict(mapping), "rule": Jsonb(rule) if rule is not None else None}
