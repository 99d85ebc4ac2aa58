"""Maps what is pending in `raw` into staging.

Where SQL can say what the mappings do, PostgreSQL does it, and only records that hold something odd stream out, through
the mappings, and in again; else all of them do. PostgreSQL then reads on one connection and writes on another while
this process maps, so that nobody waits for the others; memory stays the same whatever the volume.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
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
from softpro.mapping.expressions import expressible, rows
from softpro.mapping.step import Reason
from softpro.store import leases, logs
from softpro.store.database import Connection
from softpro.store.leases import Run

CHUNK = 2_000
"""Records that are copied before those of them that were rejected are: these wait in memory."""

# One look into the index for each: PostgreSQL expects a stream to have few records, and may else go through all of them
# for each one. `offset 0` keeps it from planning this as a join.
RECORDS = """
select p.entity_id, r.payload, r.payload_hash, r.updated_at
from ({entities}) p
cross join lateral (
    select {payload} as payload, r.payload_hash, r.softpro_updated_at as updated_at
    from raw.records r
    where r.integration_id = {integration_id} and r.entity_type = {entity_type} and r.entity_id = p.entity_id
      and r.deleted_at is null
    offset 0
) r
"""
PENDING = """
select entity_id from raw.pending where integration_id = {integration_id} and entity_type = {entity_type}
"""
# Mostly all were staged. `except` is never planned as one loop in another.
NOT_STAGED = """
select entity_id
from ({pending} except select * from staged) n
where (select count(*) from staged) < (select count(*) from ({pending}) p)
"""
LEFT_OVER = """
with staged as (
    insert into {staging}
        (log_id, organization_id, mapping_version, {key}, payload_hash, softpro_updated_at, {columns})
    select {log_id}, {organization_id}, {mapping_version}, entity_id, payload_hash, updated_at, {columns}
    from ({rows}) r
    where odd is not true
    returning {key}
)
{records}
"""
FETCHED_AT_ONCE = 200

# A try that was presumed dead and goes on all the same stages for the same log.
ALONE = "select pg_advisory_xact_lock(hashtextextended('softpro transform ' || %s, 0))"


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
    in_force = sets.current(writing, run.integration_id, run.entity_type)
    compiled = compile_mappings(run.entity_type, in_force.mappings)
    rejected = 0
    with reading.transaction(), writing.transaction():
        # Both write to one table: whoever asks for all of it in between would wait for one, and the other for him.
        reading.execute("set local lock_timeout = '30s'")
        reading.execute(ALONE, [str(run.log_id)])
        leases.fence(reading, run)
        leases.fence(writing, run)
        clear(writing, run.entity_type, run.log_id)
        logs.map_by(writing, run.log_id, in_force.version)
        writing.adapters.register_dumper(None, _JsonText)
        records = _records(reading, run, in_force.version, compiled)
        with closing(records):  # a stream left open keeps its connection locked
            for first in records:
                rejects = _stage(writing, run, in_force.version, compiled, chain([first], islice(records, CHUNK - 1)))
                _reject(writing, run, rejects)
                rejected += len(rejects)
    return Transformed(staged(writing, run) - rejected, rejected)


def clear(connection: Connection, entity_type: EntityType, log_id: UUID) -> None:
    """Throws away what a run has in staging."""
    for table in (entity_type.table, "rejects", "check_results"):
        connection.execute(
            sql.SQL("delete from {} where log_id = %s").format(sql.Identifier("staging", table)), [log_id]
        )


def _records(connection: Connection, run: Run, version: int | None, compiled: Compiled) -> Generator[_Pending]:
    """The pending records, but for those that PostgreSQL itself staged."""
    query = _left_over(run, version, compiled) if expressible(compiled) else _select(run, "{pending}")
    with connection.cursor(row_factory=args_row(_Pending)) as cursor:
        yield from cursor.stream(query, binary=True, size=FETCHED_AT_ONCE)


def _left_over(run: Run, version: int | None, compiled: Compiled) -> sql.Composed:
    """Stages the records that hold nothing odd, and selects the others."""
    return sql.SQL(LEFT_OVER).format(
        **_names(run),
        mapping_version=sql.Literal(version),
        columns=sql.SQL(", ").join(sql.Identifier(step.column) for step in compiled.steps),
        rows=rows(compiled.steps, _select(run, "{pending}", "r.payload"), ["entity_id", "payload_hash", "updated_at"]),
        records=_select(run, NOT_STAGED),
    )


def _select(run: Run, entities: str, payload: str = "convert_to(r.payload::text, 'UTF8')") -> sql.Composed:
    """The records of a query's entities, with their payload as that."""
    names = _names(run)
    pending = sql.SQL(PENDING).format(**names)
    return sql.SQL(RECORDS).format(
        **names, entities=sql.SQL(entities).format(pending=pending), payload=sql.SQL(payload)
    )


def _stage(
    connection: Connection, run: Run, version: int | None, compiled: Compiled, records: Iterable[_Pending]
) -> list[_Rejected]:
    """Copies the rows that the mappings make, also of records that are rejected: the checks may know more reasons.
    Returns these."""
    types = {
        "log_id": "uuid",
        "organization_id": "text",
        "mapping_version": "int4",
        run.entity_type.key: "text",
        "payload_hash": "bytea",
        "softpro_updated_at": "timestamptz",
        **{column: kind.staged for column, kind in compiled.columns.items()},
    }
    statement = sql.SQL("copy {staging} ({columns}) from stdin (format binary)").format(
        **_names(run), columns=sql.SQL(", ").join(map(sql.Identifier, types))
    )
    rejects = []
    with connection.cursor().copy(statement) as copy:
        copy.set_types(list(types.values()))
        for record in records:
            values, reasons = apply(compiled, record.payload)
            key = (record.entity_id, record.payload_hash, record.updated_at)
            copy.write_row((run.log_id, run.organization_id, version, *key, *values))
            if reasons:
                rejects.append(_Rejected(record, reasons))
    return rejects


def _reject(connection: Connection, run: Run, rejects: list[_Rejected]) -> None:
    if not rejects:
        return
    with connection.cursor().copy(
        "copy staging.rejects (log_id, organization_id, entity_id, payload_hash, reasons) from stdin"
    ) as copy:
        for record, reasons in rejects:
            copy.write_row((run.log_id, run.organization_id, record.entity_id, record.payload_hash, Jsonb(reasons)))


def staged(connection: Connection, run: Run) -> int:
    """How many records a run has in staging, rejected ones included."""
    row = connection.execute(
        sql.SQL("select count(*) as n from {staging} where log_id = {log_id}").format(**_names(run))
    ).fetchone()
    assert row is not None
    return int(row["n"])


def _names(run: Run) -> dict[str, sql.Composable]:
    """The run's part of the statements. No parameters: texts of the mappings stand in them, which may hold a %."""
    return {
        "staging": sql.Identifier("staging", run.entity_type.table),
        "key": sql.Identifier(run.entity_type.key),
        "integration_id": sql.Literal(run.integration_id),
        "organization_id": sql.Literal(run.organization_id),
        "entity_type": sql.Literal(run.entity_type.value),
        "log_id": sql.Literal(run.log_id),
    }
