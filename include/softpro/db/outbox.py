"""Read and settle the outbox: local edits of `roi`, field by field, until both sides agree. Triggers write it.

The `old_value` of a field's first open edit is the last value on which both sides agreed.
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
"""The channel that is notified of every edit."""

MARK_LOADING = "select set_config('softpro.loading', 'on', true)"
"""Marks writes to `roi` as the sync's own, so that they are no edits, until the surrounding transaction ends."""


@dataclass(frozen=True)
class Edit:
    """A row of `softpro.outbox`; values as JSON, None for a `custom.<name>` that did not exist."""

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
    """The key of a row of `roi` with open edits."""

    entity_type: str
    roi_entity_id: UUID


def open_edits(connection: Connection, stream: Stream, roi_ids: Collection[UUID]) -> dict[UUID, list[Edit]]:
    """Return the open edits of these records, oldest first."""
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
    """Return one page of the records with open edits, by their first edit, and their total number.

    Args:
        records: only these records, by our ids.
    """
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
    """Queue the rows that were created in `roi` before the organization was connected, so that they are pushed too."""
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
    """Turn the unmapped fields of created records into edits, which stay open as later edits of such fields do.

    A create sends only the fields that mappings name.

    Args:
        creates: the ids of the creates in the outbox.
        key: the column of SoftPro's id.
        named: the fields that mappings name.
    """
    if creates:
        connection.execute(
            """
            insert into softpro.outbox
                (integration_id, organization_id, entity_type, roi_entity_id, entity_id, operation, field, old_value,
                 new_value, changed_by, login, changed_at)
            select o.integration_id, o.organization_id, o.entity_type, o.roi_entity_id, o.entity_id, 'UPDATE', f.field,
                   'null', f.value, o.changed_by, o.login, o.changed_at
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
    """Settle the edits with these ids that are still open."""
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
    """Replace the edits of one field, or deletes, by one from `old_value` to `new_value`, and return its id.

    SoftPro holds the old value now. The new edit keeps the user and time of the last one.

    Args:
        changed_by: the user of the new edit, made now, instead.
    """
    last = edits[-1]
    row = queries.one(
        connection,
        """
        insert into softpro.outbox
            (integration_id, organization_id, entity_type, roi_entity_id, entity_id, operation, field, old_value,
             new_value, changed_by, login, changed_at, approved_by)
        select integration_id, organization_id, entity_type, roi_entity_id, entity_id, operation, field,
               %(old)s::jsonb, %(new)s::jsonb, coalesce(%(by)s, changed_by),
               case when %(by)s::text is null then login else session_user end,
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
    """Delete the edits settled more than `days` days ago, in batches, and return their number.

    Call it in autocommit, so that each batch is a transaction.
    """
    return queries.delete_in_batches(
        connection,
        """
        delete from softpro.outbox
        where id = any(array(
            select id from softpro.outbox
            where settled_at < now() - make_interval(days => %(days)s)
            order by settled_at
            limit %(limit)s))
        """,
        {"days": days},
    )
