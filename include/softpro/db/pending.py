"""Own `raw.pending`: the records that are landed in `raw` and not loaded yet.

Every writer locks its rows in id order (prevents deadlocks). Statements that mark or clear as part of a larger one
compose `marking` or `clearing`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from psycopg import sql

from softpro.db.database import Connection
from softpro.entities import Stream

MARK = """
insert into raw.pending (integration_id, organization_id, entity_type, entity_id, payload_hash)
select integration_id, organization_id, entity_type, entity_id, payload_hash
from {source}
order by entity_id
on conflict (integration_id, entity_type, entity_id) {conflict}
"""
CLEAR = """
delete from raw.pending
where ctid = any(array({locked}))
returning entity_id, payload_hash
"""
LIVE_RECORDS = sql.SQL("""
(select * from raw.records
 where integration_id = %(integration_id)s and entity_type = %(entity_type)s and deleted_at is null
   and (%(ids)s::text[] is null or entity_id = any(%(ids)s))) live
""")
MARK_NEW = """
insert into raw.pending (integration_id, organization_id, entity_type, entity_id, payload_hash)
select %(integration_id)s, %(organization_id)s, %(entity_type)s, u.entity_id, u.payload_hash
from unnest(%(ids)b::text[], %(hashes)b::bytea[]) u (entity_id, payload_hash)
"""
LOCKED_RECORDS = sql.SQL("""
select ctid
from raw.pending
where (integration_id, entity_type) = (%(integration_id)s, %(entity_type)s) and entity_id = any(%(ids)s)
order by entity_id
for update
""")
REPLACE, KEEP = sql.SQL("do update set payload_hash = excluded.payload_hash"), sql.SQL("do nothing")


def marking(source: sql.Composable, *, replace: bool = False) -> sql.Composed:
    """Compose the statement that marks records pending.

    Args:
        source: what follows `from`, with the columns integration_id, organization_id, entity_type, entity_id and
            payload_hash.
        replace: whether the new payload hash replaces that of a record that is pending already.
    """
    return sql.SQL(MARK).format(source=source, conflict=REPLACE if replace else KEEP)


def clearing(locked: sql.Composable) -> sql.Composed:
    """Compose the statement that clears the rows whose `ctid` the query `locked` selects, in id order, for update.

    It returns entity_id and payload_hash of each.
    """
    return sql.SQL(CLEAR).format(locked=locked)


def mark(connection: Connection, stream: Stream, ids: Collection[str] | None = None, *, replace: bool = False) -> int:
    """Mark the stream's live records pending, all or those of `ids`, and return how many became or changed.

    Args:
        replace: whether to replace the payload hash of records that are pending already.
    """
    parameters = {**stream.parameters, "ids": None if ids is None else list(ids)}
    return connection.execute(marking(LIVE_RECORDS, replace=replace), parameters).rowcount


def mark_new(connection: Connection, stream: Stream, ids: Sequence[str], hashes: Sequence[bytes]) -> None:
    """Mark records pending that were just stored for the first time; `hashes` holds their payload hashes."""
    connection.execute(MARK_NEW, {**stream.parameters, "ids": list(ids), "hashes": list(hashes)})


def clear(connection: Connection, stream: Stream, ids: Collection[str]) -> None:
    """Clear the records of these ids, in any version."""
    connection.execute(clearing(LOCKED_RECORDS), {**stream.parameters, "ids": list(ids)})
