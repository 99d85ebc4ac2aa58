"""The first of the two transactions that matter: a page's records and the cursor that has passed them, together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from softpro.quality import quarantine
from softpro.store import leases, logs
from softpro.store.database import Connection
from softpro.store.leases import Run
from softpro.sync import cursors
from softpro.sync.cursors import Cursor
from softpro.vendor.records import Record, Unreadable

UPSERT = """
with landed as (
    insert into raw.records as r
        (integration_id, organization_id, entity_type, entity_id, payload, payload_hash, softpro_updated_at)
    select distinct on (entity_id)
           %(integration_id)s, %(organization_id)s, %(entity_type)s, entity_id, payload::jsonb, payload_hash, updated_at
    from landing
    where {storable}
    order by entity_id, updated_at desc
    on conflict (integration_id, entity_type, entity_id) do update
    set payload = excluded.payload, payload_hash = excluded.payload_hash,
        softpro_updated_at = excluded.softpro_updated_at, last_seen_at = now()
    where excluded.softpro_updated_at >= r.softpro_updated_at
      and (excluded.payload_hash <> r.payload_hash or excluded.entity_id = any(%(again)s))
    returning r.integration_id, r.organization_id, r.entity_type, r.entity_id, r.payload_hash
)
insert into raw.pending (integration_id, organization_id, entity_type, entity_id, payload_hash)
select integration_id, organization_id, entity_type, entity_id, payload_hash
from landed
on conflict (integration_id, entity_type, entity_id) do update
set payload_hash = excluded.payload_hash
"""
EVERYTHING, STORABLE = sql.SQL("true"), sql.SQL("pg_input_is_valid(payload, 'jsonb')")

REFUSED = "PostgreSQL's jsonb can't hold it (a NUL character, or half a surrogate pair, in a text?)"


def payload_hash(payload: bytes) -> bytes:
    """What tells one version of a record from another: 16 bytes of BLAKE2b over the bytes as sent."""
    return hashlib.blake2b(payload, digest_size=16).digest()


@dataclass(frozen=True)
class Batch:
    """What is landed together: a page, and the cursor that has passed it.

    Of the records, `new` are new to the run and readable; those whose id is in `again` are loaded again although they
    did not change. `requests_made` since the batch before.
    """

    records: Sequence[Record | Unreadable]
    cursor: Cursor
    new: int = 0
    again: frozenset[str] = frozenset()
    requests_made: int = 0


def land(connection: Connection, run: Run, batch: Batch) -> int:
    """Stores a page in `raw.records`, pending where the payload changed or it is wanted again, and the cursor.

    An older `updatedAt` never replaces a newer one. What can't be stored as a record goes to quarantine. Returns how
    many records are new to the stream: the `new` readable ones and those put in quarantine. Raises LeaseLost.
    """
    with connection.transaction():
        # The server may answer before this is on disk: a crash would lose the cursor along with the records it passed.
        connection.execute("set local synchronous_commit = off")
        leases.fence(connection, run)
        unreadable = [record for record in batch.records if isinstance(record, Unreadable)]
        readable = [record for record in batch.records if isinstance(record, Record)]
        refused = _land_readable(connection, run, readable, batch.again)
        opened = [_quarantine(connection, run, record, bool(batch.again)) for record in [*unreadable, *refused]]
        fetched = batch.new + sum(opened[: len(unreadable)])
        cursors.write(connection, run, batch.cursor)
        logs.add(
            connection,
            run.log_id,
            records_fetched=fetched,
            api_requests=batch.requests_made,
            records_processed=sum(opened),
            records_failed=sum(opened),
        )
        return fetched


class Lander:
    """Lands batches in order, on a thread of its own: each while whoever put it fetches the next one.

    `fetched` counts what `land` does, of the batches that are landed.
    """

    def __init__(self, connection: Connection, run: Run, thread: ThreadPoolExecutor) -> None:
        self.fetched = 0
        self._connection, self._run, self._thread = connection, run, thread
        self._under_way: Future[int] | None = None

    def put(self, batch: Batch) -> None:
        """Has a batch landed, once the one before it is. Raises what `land` raised of that one."""
        self.wait()
        self._under_way = self._thread.submit(land, self._connection, self._run, batch)

    def wait(self) -> int:
        """Waits for the batch under way: until another one is put, the connection is free. Returns `fetched`."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            self.fetched += under_way.result()
        return self.fetched


@contextmanager
def landing(connection: Connection, run: Run) -> Iterator[Lander]:
    """A lander that uses this connection; what it was given is landed when the block ends, however it does."""
    with ThreadPoolExecutor(1, "land") as thread:
        yield Lander(connection, run, thread)


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
    with connection.cursor().copy("copy landing from stdin (format binary)") as copy:
        copy.set_types(["text", "bytea", "bytea", "timestamptz"])  # a text's bytes are sent as they are
        for record in records:
            copy.write_row((record.key.id, record.payload, payload_hash(record.payload), record.key.updated_at))
    parameters = {**run.stream, "organization_id": run.organization_id, "again": list(again)}
    try:
        with connection.transaction():
            connection.execute(sql.SQL(UPSERT).format(storable=EVERYTHING), parameters)
    except psycopg.DataError:  # to ask for every record whether jsonb takes it costs as much as to store it
        connection.execute(sql.SQL(UPSERT).format(storable=STORABLE), parameters)
        refused = connection.execute(
            sql.SQL("select entity_id, payload from landing where not {}").format(STORABLE)
        ).fetchall()
        return [Unreadable(row["payload"].encode(), REFUSED, row["entity_id"]) for row in refused]
    return []
