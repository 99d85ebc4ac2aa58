"""Read, edit and restore single rows of `roi`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql

from softpro.db.database import Connection
from softpro.entities import EntityType
from softpro.errors import UsageError
from softpro.mapping.columns import COLUMNS, CUSTOM, CUSTOM_PREFIX
from softpro.mapping.convert import CONVERTERS, to_json
from softpro.mapping.paths import MISSING
from softpro.writeback.field_values import Fields, apply_fields, decode, encode

SELECT_ROW = "select to_jsonb(t)::text as row from {roi} t where id = %(roi_id)s"
SET_EDITOR = "select set_config('softpro.loading', '', true), set_config('softpro.user', %(by)s, true)"
UPDATE_ROW = """
update {roi} t
set ({columns}) = (select {new_columns} from jsonb_populate_record(t, %(changes)s::jsonb) n)
where id = %(roi_id)s
"""
# Restores a deleted row with its id, marked as deleted. It is then loaded like any other row marked as deleted.
RESTORE_ROWS = """
insert into {roi}
select n.*
from unnest(%(rows)s::jsonb[]) r (was)
cross join lateral jsonb_populate_record(
    null::{roi}, r.was || jsonb_build_object('deleted_at', now(), 'updated_at', now())) n
on conflict do nothing
"""


def read(connection: Connection, entity_type: EntityType, roi_id: UUID, *, lock: bool = False) -> dict[str, Any] | None:
    """Return the row by column, as JSON values; None if it does not exist. `lock` lasts until the transaction ends."""
    query = _compose(SELECT_ROW, entity_type) + sql.SQL(" for update" if lock else "")
    found = connection.execute(query, {"roi_id": roi_id}).fetchone()
    return None if found is None else dict(decode(found["row"]))


def edit(
    connection: Connection, entity_type: EntityType, roi_id: UUID, row: Mapping[str, Any], changes: Fields, by: str
) -> None:
    """Edit fields of the row in a user's name. Triggers write its history and the outbox.

    Call it in a transaction, with the locked `row`. MISSING removes a `custom.<name>`.

    Raises:
        UsageError: A column cannot hold a value.
    """
    columns = apply_fields(row, {field: convert_value(entity_type, field, value) for field, value in changes.items()})
    query = _compose(UPDATE_ROW, entity_type, list(columns))
    connection.execute(SET_EDITOR, {"by": by})
    try:
        connection.execute(query, {"roi_id": roi_id, "changes": encode(columns)})
    except (psycopg.DataError, psycopg.IntegrityError) as refused:
        raise UsageError(f"The row cannot hold this value: {refused.diag.message_primary}") from None


def convert_value(entity_type: EntityType, field: str, value: Any) -> Any:
    """Return the value as its column holds it. MISSING stays MISSING.

    Raises:
        UsageError: The column cannot hold it, or does not exist.
    """
    if value is MISSING:
        return value
    kind = COLUMNS[entity_type].get(field)
    try:
        if field == CUSTOM or field.startswith(CUSTOM_PREFIX):
            to_json(value)
            return value
        if kind is None:
            raise ValueError("there is no such column")
        return None if value is None else CONVERTERS[kind](value)
    except ValueError as wrong:
        raise UsageError(f"{field}: {wrong}") from None


def restore(connection: Connection, entity_type: EntityType, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert deleted rows again, marked as deleted until they are loaded.

    Call it inside a transaction that is marked as loading.
    """
    if rows:
        connection.execute(_compose(RESTORE_ROWS, entity_type), {"rows": [encode(row) for row in rows]})


def _compose(query: LiteralString, entity_type: EntityType, columns: Sequence[str] = ()) -> sql.Composed:
    return sql.SQL(query).format(
        roi=sql.Identifier("roi", entity_type.table),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        new_columns=sql.SQL(", ").join(sql.Identifier("n", column) for column in columns),
    )
