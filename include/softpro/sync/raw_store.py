"""Store records as SoftPro sent them in `raw.records`, and mark those whose payload changed in `raw.pending`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from softpro.db import pending
from softpro.db.database import Connection
from softpro.entities import Stream
from softpro.softpro360.records import Record, Unreadable

Known = Mapping[str, bytes | None]
"""The hashes of the stored payloads as SoftPro sent them, by record id; None for a deleted record."""

REFUSED_MESSAGE = "PostgreSQL's jsonb can't store it (a NUL character or half a surrogate pair in a text?)"

SELECT_KNOWN = """
select entity_id, case when deleted_at is null then coalesce(corrects, payload_hash) end as payload_hash
from raw.records
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and entity_id = any(%(ids)s)
"""
# In COPY's binary format a jsonb value is its version byte, followed by the text's bytes.
RECORD_COLUMNS = {
    "integration_id": "uuid",
    "organization_id": "text",
    "entity_type": "text",
    "entity_id": "text",
    "payload_hash": "bytea",
    "softpro_updated_at": "timestamptz",
    "etag": "text",
    "payload": "bytea",
}
JSONB_VERSION = b"\x01"
LANDING_COLUMNS = {
    "place": "int4",
    "entity_id": "text",
    "payload": "bytea",
    "payload_hash": "bytea",
    "updated_at": "timestamptz",
    "etag": "text",
}

# Any version of a deleted record revives it if it was requested after the delete. The delete was confirmed when no
# response could show the record any more. A response to an earlier request may still arrive later, and is ignored.
# A user's correction stays in place of the version that it corrects, however often SoftPro sends that version.
UPSERT_RECORDS = """
with landed as (
    insert into raw.records as r
        (integration_id, organization_id, entity_type, entity_id, payload, payload_hash, softpro_updated_at, etag)
    select distinct on (entity_id)
           %(integration_id)s, %(organization_id)s, %(entity_type)s, entity_id, payload::jsonb, payload_hash,
           updated_at, etag
    from landing
    where {storable}
    order by entity_id, updated_at desc, place desc
    on conflict (integration_id, entity_type, entity_id) do update
    set payload = case excluded.payload_hash when r.corrects then r.payload else excluded.payload end,
        payload_hash = case excluded.payload_hash when r.corrects then r.payload_hash else excluded.payload_hash end,
        corrects = case excluded.payload_hash when r.corrects then r.corrects end,
        softpro_updated_at = excluded.softpro_updated_at, last_seen_at = now(), deleted_at = null,
        etag = excluded.etag
    where r.deleted_at < coalesce(%(asked_at)s::timestamptz, 'infinity')
       or (r.deleted_at is null
           and excluded.softpro_updated_at >= r.softpro_updated_at
           and (excluded.payload_hash not in (r.payload_hash, coalesce(r.corrects, r.payload_hash))
                or excluded.entity_id = any(%(again)s)))
    returning r.integration_id, r.organization_id, r.entity_type, r.entity_id, r.payload_hash
)
{mark}
"""
ALL_RECORDS, STORABLE_RECORDS = sql.SQL("true"), sql.SQL("pg_input_is_valid(payload, 'jsonb')")


def store(
    connection: Connection,
    stream: Stream,
    records: Sequence[Record],
    again: frozenset[str],
    known: Known | None = None,
    asked_at: datetime | None = None,
) -> list[Unreadable]:
    """Store records in the surrounding transaction, and return those that jsonb refuses.

    A record becomes pending if it is new, its payload changed, or its id is in `again`. An older `updatedAt` never
    replaces a newer one. jsonb refuses a NUL character or half a surrogate pair in a text, for example.

    Args:
        known: the stored hashes of these ids, if the caller knows them.
        asked_at: when the records were requested, by the database's clock; None if a user entered them.
    """
    stored = dict(_look_up(connection, stream, records) if known is None else known)
    new: list[Record] = []
    others: list[Record] = []
    for record in records:
        entity_id = record.key.id
        if entity_id not in stored:
            stored[entity_id] = record.payload_hash
            new.append(record)
        elif stored[entity_id] != record.payload_hash or entity_id in again:
            others.append(record)
    if new:
        try:
            with connection.transaction():
                _add(connection, stream, sorted(new, key=lambda record: record.key.id))
        except (psycopg.DataError, psycopg.errors.UniqueViolation):
            others = [*new, *others]  # jsonb refuses one, or another run has just landed it
    return _merge(connection, stream, others, again, asked_at) if others else []


def forget_etags(connection: Connection, stream: Stream, entity_ids: Sequence[str]) -> None:
    """Forget the ETags of records whose versions at SoftPro are unknown, so that the next push fetches them first."""
    connection.execute(
        """
        update raw.records set etag = null
        where integration_id = %(integration_id)s and entity_type = %(entity_type)s
          and entity_id = any(%(entity_ids)s)
        """,
        {**stream.parameters, "entity_ids": list(entity_ids)},
    )


def _look_up(connection: Connection, stream: Stream, records: Sequence[Record]) -> Known:
    found = connection.execute(
        SELECT_KNOWN, {**stream.parameters, "ids": [record.key.id for record in records]}
    ).fetchall()
    return {row["entity_id"]: row["payload_hash"] for row in found}


def _add(connection: Connection, stream: Stream, records: Sequence[Record]) -> None:
    named = (stream.integration_id, stream.organization_id, stream.entity_type.value)
    rows = (
        (
            *named,
            record.key.id,
            record.payload_hash,
            record.key.updated_at,
            record.etag,
            JSONB_VERSION + record.payload,
        )
        for record in records
    )
    _copy(connection, "raw.records", RECORD_COLUMNS, rows)
    pending.mark_new(
        connection, stream, [record.key.id for record in records], [record.payload_hash for record in records]
    )


def _merge(
    connection: Connection,
    stream: Stream,
    records: Sequence[Record],
    again: frozenset[str],
    asked_at: datetime | None,
) -> list[Unreadable]:
    connection.execute(
        """
        create temporary table if not exists landing
            (place int, entity_id text, payload text, payload_hash bytea, updated_at timestamptz, etag text)
        on commit delete rows
        """
    )
    rows = (
        (place, record.key.id, record.payload, record.payload_hash, record.key.updated_at, record.etag)
        for place, record in enumerate(records)
    )
    _copy(connection, "landing", LANDING_COLUMNS, rows)
    parameters = {**stream.parameters, "again": list(again), "asked_at": asked_at}
    try:
        with connection.transaction():
            connection.execute(_upsert(ALL_RECORDS), parameters)
    except psycopg.DataError:  # not checked before: to check every record costs as much as to store it
        connection.execute(_upsert(STORABLE_RECORDS), parameters)
        refused = connection.execute(
            sql.SQL("select entity_id, payload from landing where not {}").format(STORABLE_RECORDS)
        ).fetchall()
        return [Unreadable(row["payload"].encode(), REFUSED_MESSAGE, row["entity_id"]) for row in refused]
    return []


def _copy(connection: Connection, table: str, types: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> None:
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, types))
    )
    with connection.cursor().copy(statement) as copy:
        copy.set_types(list(types.values()))
        for row in rows:
            copy.write_row(row)


def _upsert(storable: sql.SQL) -> sql.Composed:
    mark = pending.marking(sql.SQL("landed"), replace=True)
    return sql.SQL(UPSERT_RECORDS).format(storable=storable, mark=mark)
