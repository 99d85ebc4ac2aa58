"""The first of the two transactions that matter: a page's records and the cursor that has passed them, together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from psycopg.types.json import Jsonb

from softpro.quality import quarantine
from softpro.store import leases, logs
from softpro.store.database import Connection
from softpro.store.leases import Run
from softpro.sync import cursors
from softpro.sync.cursors import Cursor
from softpro.vendor.records import Record, Unreadable

UPSERT = """
insert into raw.records as r
    (integration_id, organization_id, entity_type, entity_id, payload, payload_hash, softpro_updated_at)
select distinct on (entity_id)
       %(integration_id)s, %(organization_id)s, %(entity_type)s, entity_id, payload::jsonb, payload_hash, updated_at
from landing
where pg_input_is_valid(payload, 'jsonb')
order by entity_id, updated_at desc
on conflict (integration_id, entity_type, entity_id) do update
set payload = excluded.payload, payload_hash = excluded.payload_hash, pending = true,
    softpro_updated_at = excluded.softpro_updated_at, last_seen_at = now()
where excluded.softpro_updated_at >= r.softpro_updated_at
  and (excluded.payload_hash <> r.payload_hash or excluded.entity_id = any(%(again)s))
"""

REFUSED = "PostgreSQL's jsonb can't hold it (a NUL character, or half a surrogate pair, in a text?)"


def payload_hash(payload: bytes) -> bytes:
    """What tells one version of a record from another: 16 bytes of BLAKE2b over the bytes as sent."""
    return hashlib.blake2b(payload, digest_size=16).digest()


def land(
    connection: Connection,
    run: Run,
    records: Sequence[Record | Unreadable],
    cursor: Cursor,
    *,
    new: int,
    again: frozenset[str],
    requests_made: int,
) -> int:
    """Stores a page in `raw.records`, pending where the payload changed or the id is in `again`, and the cursor.

    An older `updatedAt` never replaces a newer one. What can't be stored as a record goes to quarantine. Returns how
    many records are new to the stream: the `new` readable ones and those put in quarantine. Raises LeaseLost.
    """
    with connection.transaction():
        leases.fence(connection, run)
        unreadable = [record for record in records if isinstance(record, Unreadable)]
        refused = _land_readable(connection, run, [r for r in records if isinstance(r, Record)], again)
        opened = [_quarantine(connection, run, record, bool(again)) for record in [*unreadable, *refused]]
        fetched = new + sum(opened[: len(unreadable)])
        cursors.write(connection, run, cursor)
        logs.add(
            connection,
            run.log_id,
            records_fetched=fetched,
            api_requests=requests_made,
            records_processed=sum(opened),
            records_failed=sum(opened),
        )
        return fetched


def _quarantine(connection: Connection, run: Run, record: Unreadable, again: bool) -> int:
    return quarantine.put(
        connection,
        run,
        payload=record.payload,
        payload_hash=payload_hash(record.payload),
        entity_id=record.entity_id,
        reasons=Jsonb([{"column": None, "rule": "readable", "message": record.reason}]),
        again=again,
    )


def _land_readable(
    connection: Connection, run: Run, records: Sequence[Record], again: frozenset[str]
) -> list[Unreadable]:
    """Upserts the records and returns those that jsonb refuses (a NUL in a text, half a surrogate pair, …)."""
    if not records:
        return []
    connection.execute(
        """
        create temporary table if not exists landing
            (entity_id text, payload text, payload_hash bytea, updated_at timestamptz) on commit delete rows
        """
    )
    with connection.cursor().copy("copy landing from stdin") as copy:
        for record in records:
            copy.write_row(
                (record.key.id, record.payload.decode(), payload_hash(record.payload), record.key.updated_at)
            )
    connection.execute(UPSERT, {**run.stream, "organization_id": run.organization_id, "again": list(again)})
    refused = connection.execute(
        "select entity_id, payload from landing where not pg_input_is_valid(payload, 'jsonb')"
    ).fetchall()
    return [Unreadable(row["payload"].encode(), REFUSED, row["entity_id"]) for row in refused]
