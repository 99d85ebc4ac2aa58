"""Maps what is pending in `raw` into staging: rows stream out, through the mappings, and in again.

PostgreSQL reads on one connection and writes on another while this process maps, so that nobody waits for the others;
memory stays the same whatever the volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import NamedTuple
from uuid import UUID

from psycopg import adapters, sql
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import args_row
from psycopg.types.json import Jsonb

from softpro.entities import EntityType
from softpro.mapping import sets
from softpro.mapping.compiled import Compiled, apply, compile_mappings
from softpro.mapping.step import Reason
from softpro.store import leases
from softpro.store.database import Connection
from softpro.store.leases import Run

CHUNK = 2_000
"""Records that are copied before those of them that were rejected are: these wait in memory."""

# One look into the index for each: PostgreSQL expects a stream to have few records, and may else go through all of them
# for each one. `offset 0` keeps it from planning this as a join.
PENDING = """
select p.entity_id, r.payload, r.payload_hash, r.updated_at
from raw.pending p
cross join lateral (
    select convert_to(r.payload::text, 'UTF8') as payload, r.payload_hash, r.softpro_updated_at as updated_at
    from raw.records r
    where (r.integration_id, r.entity_type, r.entity_id) = (p.integration_id, p.entity_type, p.entity_id)
      and r.deleted_at is null
    offset 0
) r
where p.integration_id = %(integration_id)s and p.entity_type = %(entity_type)s
"""
FETCHED_AT_ONCE = 200


class _JsonText(Dumper):
    """A text that is JSON, as jsonb is sent: after its version, 1."""

    format, oid = Format.BINARY, adapters.types["jsonb"].oid

    def dump(self, obj: str) -> bytes:
        return b"\x01" + obj.encode()


@dataclass(frozen=True)
class Transformed:
    """How many pending records were staged, and how many no mapping could make a row of."""

    staged: int
    rejected: int


class _Pending(NamedTuple):
    entity_id: str
    payload: bytes
    payload_hash: bytes
    updated_at: datetime


class _Rejected(NamedTuple):
    pending: _Pending
    reasons: list[Reason]


def transform(reading: Connection, writing: Connection, run: Run) -> Transformed:
    """Stages every pending record of the stream under the run's log id, replacing what an earlier try staged.

    The connections are two to the same database. Raises LeaseLost.
    """
    mappings = [stored.mapping for stored in sets.read(writing, run.integration_id, run.entity_type)]
    compiled = compile_mappings(run.entity_type, mappings)
    taken = rejected = 0
    with writing.transaction():
        leases.fence(writing, run)
        clear(writing, run.entity_type, run.log_id)
        writing.adapters.register_dumper(None, _JsonText)
        pending = _pending(reading, run)
        for first in pending:
            records, rejects = _stage(writing, run, compiled, chain([first], islice(pending, CHUNK - 1)))
            _reject(writing, run, rejects)
            taken += records
            rejected += len(rejects)
    return Transformed(taken - rejected, rejected)


def clear(connection: Connection, entity_type: EntityType, log_id: UUID) -> None:
    """Throws away what a run has in staging."""
    for table in (entity_type.table, "rejects"):
        connection.execute(
            sql.SQL("delete from {} where log_id = %s").format(sql.Identifier("staging", table)), [log_id]
        )


def _pending(connection: Connection, run: Run) -> Iterator[_Pending]:
    with connection.cursor(row_factory=args_row(_Pending)) as cursor:
        yield from cursor.stream(PENDING, run.stream, binary=True, size=FETCHED_AT_ONCE)


def _stage(
    connection: Connection, run: Run, compiled: Compiled, records: Iterable[_Pending]
) -> tuple[int, list[_Rejected]]:
    """Copies the rows that the mappings make. Returns how many records there were, and those that were rejected."""
    types = {
        "log_id": "uuid",
        "organization_id": "text",
        run.entity_type.key: "text",
        "payload_hash": "bytea",
        "softpro_updated_at": "timestamptz",
        **{column: kind.staged for column, kind in compiled.columns.items()},
    }
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        sql.Identifier("staging", run.entity_type.table), sql.SQL(", ").join(map(sql.Identifier, types))
    )
    count, rejects = 0, []
    with connection.cursor().copy(statement) as copy:
        copy.set_types(list(types.values()))
        for record in records:
            count += 1
            values, reasons = apply(compiled, record.payload)
            if reasons:
                rejects.append(_Rejected(record, reasons))
            else:
                copy.write_row(
                    (run.log_id, run.organization_id, record.entity_id, record.payload_hash, record.updated_at, *values)
                )
    return count, rejects


def _reject(connection: Connection, run: Run, rejects: list[_Rejected]) -> None:
    if not rejects:
        return
    with connection.cursor().copy(
        "copy staging.rejects (log_id, organization_id, entity_id, payload_hash, reasons) from stdin"
    ) as copy:
        for record, reasons in rejects:
            copy.write_row((run.log_id, run.organization_id, record.entity_id, record.payload_hash, Jsonb(reasons)))
