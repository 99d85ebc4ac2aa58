"""Which streams are due, and in which lane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from psycopg.rows import class_row

from softpro.entities import EntityType
from softpro.store.database import Connection

PATIENCE = timedelta(minutes=2)
"""A run that was announced and has not begun by then is not waited for any longer."""


class Lane(StrEnum):
    """Streams with a backlog (first loads, sweeps) go on in a lane of their own, so that nobody waits for them."""

    FRESH = "fresh"
    BACKLOG = "backlog"


@dataclass(frozen=True)
class Stream:
    """An integration's entity type."""

    integration_id: UUID
    organization_id: str
    entity_type: str


def due(connection: Connection, lane: Lane) -> list[Stream]:
    """The connected streams of the lane whose time has come and that no run works on or is about to, oldest sync first.

    Time has come when `sync_frequency` seconds have passed since the last sync, or, after a failure, at
    `next_attempt_at`; a backlog is due at once.
    """
    query = """
        select i.id as integration_id, i.organization_id, e.entity_type
        from softpro.integrations i
        cross join lateral (
            values ('CONTACT', i.sync_contacts), ('TRANSACTION', i.sync_transactions)
        ) e (entity_type, switched_on)
        left join softpro.cursors c on c.integration_id = i.id and c.entity_type = e.entity_type
        left join softpro.leases l on l.integration_id = i.id and l.entity_type = e.entity_type
        where i.status = 'CONNECTED' and i.sync_enabled and i.deleted_at is null and e.switched_on
          and coalesce(c.backlog, false) = %(backlog)s
          and coalesce(i.next_attempt_at <= now(),
                       c.backlog or i.last_sync_at is null
                       or i.last_sync_at + make_interval(secs => i.sync_frequency) <= now())
          and (l.integration_id is null or softpro.is_free(l))
          and not exists (
              select from softpro.sync_logs o
              where o.integration_id = i.id and o.entity_type = e.entity_type
                and o.status = 'PENDING' and o.started_at > now() - %(patience)s)
        order by i.last_sync_at nulls first, i.id, e.entity_type
    """
    return (
        connection.cursor(row_factory=class_row(Stream))
        .execute(query, {"backlog": lane is Lane.BACKLOG, "patience": PATIENCE})
        .fetchall()
    )


def of_organization(
    connection: Connection, organization_id: str | None, entity_types: Sequence[EntityType]
) -> list[Stream]:
    """The switched-on streams that a person asked for, due or not: of one organization, or of all connected ones."""
    query = """
        select i.id as integration_id, i.organization_id, e.entity_type
        from softpro.integrations i
        cross join lateral (
            values ('CONTACT', i.sync_contacts), ('TRANSACTION', i.sync_transactions)
        ) e (entity_type, switched_on)
        where i.deleted_at is null and e.switched_on and e.entity_type = any(%(entity_types)s)
          and (i.organization_id = %(organization)s or (%(organization)s::text is null and i.status = 'CONNECTED'))
        order by i.id, e.entity_type
    """
    parameters = {
        "organization": organization_id,
        "entity_types": [entity_type.value for entity_type in entity_types],
    }
    return connection.cursor(row_factory=class_row(Stream)).execute(query, parameters).fetchall()


def shards(streams: Sequence[Stream], most: int, least_streams: int) -> list[list[Stream]]:
    """Deals the streams to at most `most` shards, each of at least `least_streams` while there are enough of them.

    An integration's streams stay together: they share its budget, so they would only wait for each other.
    """
    by_integration: dict[UUID, list[Stream]] = {}
    for stream in streams:
        by_integration.setdefault(stream.integration_id, []).append(stream)
    count = min(most, max(1, len(streams) // least_streams), len(by_integration))
    dealt: list[list[Stream]] = [[] for _ in range(count)]
    for group in sorted(by_integration.values(), key=len, reverse=True):
        min(dealt, key=len).extend(group)
    return dealt
