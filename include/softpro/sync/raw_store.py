"""The vendor's records as they were sent: in `raw.records`, and in `raw.pending` those whose payload changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from softpro.db.database import Connection
from softpro.entities import Stream
from softpro.softpro360.records import Record, Unreadable

Known = Mapping[str, bytes | None]
"""The hashes of the payloads that SoftPro sent of the records that are there, by id; None of a deleted one."""

REFUSED_MESSAGE = "PostgreSQL's jsonb can't hold it (a NUL character, or half a surrogate pair, in a text?)"

SELECT_KNOWN = """
select entity_id, case when deleted_at is null then coalesce(corrects, payload_hash) end as payload_hash
from raw.records
where integration_id = %(integration_id)s and entity_type = %(entity_type)s and entity_id = any(%(ids)s)
"""
MARK_ADDED_PENDING = """
insert into raw.pending (integration_id, organization_id, entity_type, entity_id, payload_hash)
select %(integration_id)s, %(organization_id)s, %(entity_type)s, u.entity_id, u.payload_hash
from unnest(%(ids)b::text[], %(hashes)b::bytea[]) u (entity_id, payload_hash)
"""
# A text's bytes are sent as they are, and so are those of a jsonb, after its version.
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
CREATE_LANDING = {
    "place": "int4",
    "entity_id": "text",
    "payload": "bytea",
    "payload_hash": "bytea",
    "updated_at": "timestamptz",
    "etag": "text",
}

# One that was deleted is alive again, whatever version comes, if it was asked for after the delete: that was confirmed
# when no answer could show the record any more. What was asked for before may still be on its way.
# A person's correction stays in the place of the version that it corrects, however often that one comes.
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
insert into raw.pending (integration_id, organization_id, entity_type, entity_id, payload_hash)
select integration_id, organization_id, entity_type, entity_id, payload_hash
from landed
on conflict (integration_id, entity_type, entity_id) do update
set payload_hash = excluded.payload_hash
"""
EVERYTHING, STORABLE = sql.SQL("true"), sql.SQL("pg_input_is_valid(payload, 'jsonb')")


def store(
    connection: Connection,
    stream: Stream,
    records: Sequence[Record],
    again: frozenset[str],
    known: Known | None = None,
    asked_at: datetime | None = None,
) -> list[Unreadable]:
    """Stores records, pending where they are new, or their payload changed, or their id is in `again`.

    `known`: what stands there of the ids, where the caller can tell. `asked_at`: when they were asked for, by the
    database's clock; None: a person put them in. An older `updatedAt` never replaces a newer one.
    Call it inside a transaction. Returns the records that jsonb refuses (a NUL in a text, half a surrogate pair, …).
    """
    there = dict(_look_up(connection, stream, records) if known is None else known)
    new: list[Record] = []
    others: list[Record] = []
    for record in records:
        entity_id = record.key.id
        if entity_id not in there:
            there[entity_id] = record.payload_hash
            new.append(record)
        elif there[entity_id] != record.payload_hash or entity_id in again:
            others.append(record)
    if new:
        try:
            with connection.transaction():
                _add(connection, stream, sorted(new, key=lambda record: record.key.id))
        except (psycopg.DataError, psycopg.errors.UniqueViolation):
            others = [*new, *others]  # jsonb refuses one, or another run has just landed it
    return _merge(connection, stream, others, again, asked_at) if others else []


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
    connection.execute(
        MARK_ADDED_PENDING,
        {
            **stream.parameters,
            "ids": [record.key.id for record in records],
            "hashes": [record.payload_hash for record in records],
        },
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
    _copy(connection, "landing", CREATE_LANDING, rows)
    parameters = {**stream.parameters, "again": list(again), "asked_at": asked_at}
    try:
        with connection.transaction():
            connection.execute(sql.SQL(UPSERT_RECORDS).format(storable=EVERYTHING), parameters)
    except psycopg.DataError:  # to ask for every record whether jsonb takes it costs as much as to store it
        connection.execute(sql.SQL(UPSERT_RECORDS).format(storable=STORABLE), parameters)
        refused = connection.execute(
            sql.SQL("select entity_id, payload from landing where not {}").format(STORABLE)
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
