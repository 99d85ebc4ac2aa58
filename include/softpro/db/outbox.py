"""What somebody other than the sync changed in `roi`, field by field, until both sides agree; triggers write it.

A field's first open edit holds what both sides last agreed on, as its `old_value`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import sql
from psycopg.rows import class_row

from softpro.db import queries
from softpro.db.database import Connection
from softpro.entities import EntityType, Stream

CHANNEL = "softpro_outbox"
"""Notified with every edit."""

MARK_LOADING = "select set_config('softpro.loading', 'on', true)"
"""Until the surrounding transaction ends, what is written to `roi` is the sync's, and no edit."""

PURGE_BATCH_ROWS = 10_000
"""Settled edits that are deleted in one transaction."""


@dataclass(frozen=True)
class Edit:
    """One row of `softpro.outbox`; values as JSON, None where `custom.<name>` was not there."""

    id: int
    roi_entity_id: UUID
    entity_id: str | None
    operation: str
    field: str | None
    old_value: str | None
    new_value: str | None
    changed_by: str
    changed_at: datetime
    approved_by: str | None


@dataclass(frozen=True)
class EditedKey:
    """Names a row of `roi` with open edits."""

    entity_type: str
    roi_entity_id: UUID


def open_edits(connection: Connection, stream: Stream, roi_ids: Collection[UUID]) -> dict[UUID, list[Edit]]:
    """The open edits of these records, oldest first."""
    found = connection.cursor(row_factory=class_row(Edit)).execute(
        """
        select id, roi_entity_id, entity_id, operation, field, old_value::text as old_value,
               new_value::text as new_value, changed_by, changed_at, approved_by
        from softpro.outbox
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s and settled_at is null
          and roi_entity_id = any(%(ids)s)
        order by id
        """,
        {**stream.parameters, "ids": list(roi_ids)},
    )
    edits: dict[UUID, list[Edit]] = {}
    for edit in found:
        edits.setdefault(edit.roi_entity_id, []).append(edit)
    return edits


def page(
    connection: Connection,
    integration_id: UUID,
    entity_types: Collection[EntityType],
    *,
    records: Collection[UUID] | None = None,
    limit: int,
    offset: int = 0,
) -> tuple[list[EditedKey], int]:
    """Our ids of records with open edits, who was changed first, first; `records`: of these alone. And how many there
    are in all."""
    return queries.page(
        connection,
        EditedKey,
        columns=sql.SQL("entity_type, roi_entity_id"),
        source="""
            (select entity_type, roi_entity_id, min(id) as first_edit
             from softpro.outbox
             where integration_id = %(integration_id)s and entity_type = any(%(entity_types)s) and settled_at is null
               and (%(records)s::uuid[] is null or roi_entity_id = any(%(records)s))
             group by entity_type, roi_entity_id) edited
            """,
        order="first_edit",
        parameters={
            "integration_id": integration_id,
            "entity_types": [entity_type.value for entity_type in entity_types],
            "records": None if records is None else list(records),
        },
        limit=limit,
        offset=offset,
    )


def queue_unlinked_rows(connection: Connection, integration_id: UUID, organization_id: str) -> None:
    """What was made in `roi` before the organization was known is to be sent as well."""
    for entity_type in EntityType:
        connection.execute(
            sql.SQL(
                """
                insert into softpro.outbox
                    (integration_id, organization_id, entity_type, roi_entity_id, operation, new_value, changed_by,
                     changed_at)
                select %(integration_id)s, organization_id, %(entity_type)s, id, 'CREATE', to_jsonb(t), session_user,
                       updated_at
                from {roi} t
                where organization_id = %(organization_id)s and {key} is null and deleted_at is null
                """
            ).format(roi=sql.Identifier("roi", entity_type.table), key=sql.Identifier(entity_type.key)),
            {
                "integration_id": integration_id,
                "organization_id": organization_id,
                "entity_type": entity_type.value,
            },
        )


def settle_unmapped_fields(connection: Connection, creates: Collection[int], key: str, named: Collection[str]) -> None:
    """Of records that were made here, the creates' ids: what they hold in fields that no mapping names, of which
    SoftPro is not told, stays what it is, as any later edit of these fields does."""
    if creates:
        connection.execute(
            """
            insert into softpro.outbox
                (integration_id, organization_id, entity_type, roi_entity_id, entity_id, operation, field, old_value,
                 new_value, changed_by, changed_at)
            select o.integration_id, o.organization_id, o.entity_type, o.roi_entity_id, o.entity_id, 'UPDATE', f.field,
                   'null', f.value, o.changed_by, o.changed_at
            from softpro.outbox o
            cross join softpro.fields_of(o.new_value, %(key)s) f
            where o.id = any(%(creates)s) and o.operation = 'CREATE' and f.value <> 'null'
              and f.field <> all(%(named)s)
              and not ('custom' = any(%(named)s) and starts_with(f.field, 'custom.'))
              and not exists (
                select from softpro.outbox e
                where e.integration_id = o.integration_id and e.entity_type = o.entity_type
                  and e.roi_entity_id = o.roi_entity_id and e.field = f.field and e.settled_at is null)
            """,
            {"creates": list(creates), "key": key, "named": list(named)},
        )


def settle_edits(connection: Connection, edits: Collection[int], outcome: str, log_id: UUID | None) -> None:
    """Closes the edits of these ids that are still open."""
    if edits:
        connection.execute(
            """
            update softpro.outbox
            set settled_at = clock_timestamp(), outcome = %(outcome)s, log_id = %(log_id)s
            where id = any(%(ids)s) and settled_at is null
            """,
            {"ids": list(edits), "outcome": outcome, "log_id": log_id},
        )


def replace(
    connection: Connection,
    edits: Sequence[Edit],
    old_value: str | None,
    new_value: str | None,
    log_id: UUID | None,
    *,
    changed_by: str | None = None,
) -> int:
    """Puts one edit, from `old_value` to `new_value`, in the place of these of one field (or deletes): SoftPro holds
    the old value by now. It is of who changed the field last, and when, or of `changed_by`, now. Returns its id."""
    last = edits[-1]
    row = queries.one(
        connection,
        """
        insert into softpro.outbox
            (integration_id, organization_id, entity_type, roi_entity_id, entity_id, operation, field, old_value,
             new_value, changed_by, changed_at, approved_by)
        select integration_id, organization_id, entity_type, roi_entity_id, entity_id, operation, field,
               %(old)s::jsonb, %(new)s::jsonb, coalesce(%(by)s, changed_by),
               case when %(by)s::text is null then changed_at else clock_timestamp() end, approved_by
        from softpro.outbox
        where id = %(last)s
        returning id
        """,
        {"last": last.id, "old": old_value, "new": new_value, "by": changed_by},
    )
    settle_edits(connection, [edit.id for edit in edits], "REPLACED", log_id)
    return int(row["id"])


def purge(connection: Connection, days: int) -> int:
    """Deletes the edits that were settled more than so many days ago, FORGOTTEN_TOGETHER at a time; call it in
    autocommit. Returns how many."""
    forgotten = 0
    while True:
        deleted = connection.execute(
            """
            delete from softpro.outbox
            where id = any(array(
                select id from softpro.outbox
                where settled_at < now() - make_interval(days => %(days)s)
                order by settled_at
                limit %(limit)s))
            """,
            {"days": days, "limit": PURGE_BATCH_ROWS},
        ).rowcount
        forgotten += deleted
        if deleted < PURGE_BATCH_ROWS:
            return forgotten
