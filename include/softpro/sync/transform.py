"""Maps what is pending in `raw` into staging.

Where SQL can say what the mappings do, PostgreSQL does it, and only records that hold something odd stream out, through
the mappings, and in again; else all of them do. What rules ask for streams out before, and what they come to in again.
Of much that is pending two sessions stage a half each. What this process maps, PostgreSQL reads on one connection and
writes on another meanwhile, so that nobody waits for the others; memory stays the same whatever the volume.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import msgspec
from psycopg import adapters, sql
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import RowFactory, args_row, tuple_row
from psycopg.types.json import Jsonb

from softpro.db import leases, queries, sync_logs
from softpro.db.database import Connection, disable_planner_nodes
from softpro.db.leases import Run
from softpro.entities import EntityType
from softpro.mapping import repository
from softpro.mapping.compiler import Compiled, compile_mappings, mapped
from softpro.mapping.rules.evaluator import Rules, evaluating
from softpro.mapping.rules.messages import Evaluated, Evaluation
from softpro.mapping.sql_compiler import columns, expressible, read, result, rows
from softpro.mapping.step import Reason
from softpro.softpro360.records import Record

CHUNK = 2_000
"""Records that are copied before those of them that were rejected are: these wait in memory."""

# One look into the index for each: PostgreSQL expects a stream to have few records, and may else go through all of them
# for each one. `offset 0` keeps it from planning this as a join.
SELECT_RECORDS = """
select p.*, r.*
from ({entities}) p
cross join lateral (
    select {columns}
    from raw.records r
    where r.integration_id = {integration_id} and r.entity_type = {entity_type} and r.entity_id = p.entity_id
      and r.deleted_at is null
    offset 0
) r
"""
SELECT_PENDING = """
select entity_id from raw.pending where integration_id = {integration_id} and entity_type = {entity_type} {named}
"""
WHOLE_RECORD = "convert_to(r.payload::text, 'UTF8') as payload, r.payload_hash, r.softpro_updated_at as updated_at"
IN_PLACE = "r.payload, r.payload_hash, r.softpro_updated_at as updated_at"
# What the rules came to, for each record; or, for some of them, why they failed.
CREATE_RULED = """
create temporary table ruled (entity_id text collate "C", ruled_hash bytea, failures jsonb, {results})
on commit drop
"""
# What landed meanwhile has another hash, and is left over, as is what a rule failed on.
SELECT_STILL_RULED = "select * from ({records}) r where payload_hash = ruled_hash and failures is null"
SELECT_WITH_RULED = """
select n.entity_id, d.ruled_hash, d.failures::text, {results}
from ({entities}) n
left join pg_temp.ruled d on d.entity_id = n.entity_id
"""
STAGE_ROWS = """
insert into {staging}
    (log_id, organization_id, mapping_version, {key}, payload_hash, softpro_updated_at, {columns})
select {log_id}, {organization_id}, {mapping_version}, entity_id, payload_hash, updated_at, {columns}
from ({rows}) r
where odd is not true
"""
# `except` is never planned as one loop in another.
EXCLUDE_STAGED = "except select {key} from {staging} where log_id = {log_id}"
WORTH_HALVING = 5_000
"""Pending records from which on two sessions stage them side by side, each those whose hash is even, or odd."""
FETCHED_AT_ONCE = 200
NUL = "\\u0000"

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(dict[int, str]).decode

T = TypeVar("T")

# A try that was presumed dead and goes on all the same stages for the same log.
LOCK_TRANSFORM = "select pg_advisory_xact_lock(hashtextextended('softpro transform ' || %s, 0))"


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
    """`known`: what the rules came to for this very payload, where they were evaluated over it."""

    entity_id: str
    payload: bytes
    payload_hash: bytes
    updated_at: datetime
    known: Evaluated | None = None


class _Mapping(NamedTuple):
    """What a run maps by: the set's version, compiled, and its rules' process."""

    run: Run
    version: int | None
    compiled: Compiled
    rules: Rules


@dataclass(frozen=True)
class _Half:
    """Pending records, all or those of one `parity`: `source` finds them and stages what it can, `target` takes what
    this process maps of them, while the other one streams."""

    source: Connection
    target: Connection
    parity: int | None = None

    @property
    def only(self) -> str:
        return "" if self.parity is None else f"and hashtext(entity_id) & 1 = {self.parity} "


class _Rejected(NamedTuple):
    pending: _Pending
    reasons: list[Reason]


def transform(reading: Connection, writing: Connection, run: Run) -> Transformed:
    """Stages every pending record of the stream under the run's log id, replacing what an earlier try staged; of a run
    over named records those alone.

    The connections are two to the same database. Raises LeaseLost, RulesUnavailable.
    """
    in_force = repository.current(writing, run.stream)
    compiled = compile_mappings(run.entity_type, in_force.mappings)
    with reading.transaction(), writing.transaction(), evaluating(compiled.asking.rules) as rules:
        # Both write to one table: whoever asks for all of it in between would wait for one, and the other for him.
        reading.execute("set local lock_timeout = '30s'")
        reading.execute(LOCK_TRANSFORM, [str(run.log_id)])
        for connection in (reading, writing):
            leases.fence(connection, run)
            connection.adapters.register_dumper(None, _JsonText)
        clear(writing, run.entity_type, run.log_id)
        mapping, pending = _Mapping(run, in_force.version, compiled, rules), _count_pending(reading, run)
        if not pending:  # as mostly: then not even a temporary table is made
            return Transformed(0, 0)
        if compiled.asking.rules and expressible(compiled):
            _rule(reading, writing, mapping)
        in_place, mapped, rejected = 0, 0, 0
        halves = _halves(reading, writing, compiled, pending)
        if expressible(compiled):
            with ThreadPoolExecutor(len(halves)) as pool:
                in_place = sum(pool.map(lambda half: _stage_in_place(half, mapping), halves))
        for half in halves if in_place < pending else []:
            more, bad = _map(half, mapping)
            mapped, rejected = mapped + more, rejected + bad
        sync_logs.record_mapping_version(
            writing, run.log_id, in_force.version
        )  # last: who lands meanwhile counts in the same row
    return Transformed(in_place + mapped - rejected, rejected)


def stage(connection: Connection, run: Run, records: Iterable[Record]) -> None:
    """Stages these records, as they were sent, under the run's log id, in place of what it had there; in the
    surrounding transaction. Raises RulesUnavailable."""
    in_force = repository.current(connection, run.stream)
    compiled = compile_mappings(run.entity_type, in_force.mappings)
    pending = [_Pending(each.key.id, each.payload, each.payload_hash, each.key.updated_at) for each in records]
    connection.adapters.register_dumper(None, _JsonText)
    clear(connection, run.entity_type, run.log_id)
    with evaluating(compiled.asking.rules) as rules:
        _, rejected = _stage(connection, _Mapping(run, in_force.version, compiled, rules), pending)
    _reject(connection, run, rejected)
    sync_logs.record_mapping_version(connection, run.log_id, in_force.version)


def clear(connection: Connection, entity_type: EntityType, log_id: UUID) -> None:
    """Throws away what a run has in staging."""
    for table in (entity_type.table, "rejects", "check_results"):
        connection.execute(
            sql.SQL("delete from {} where log_id = %s").format(sql.Identifier("staging", table)), [log_id]
        )


def _halves(reading: Connection, writing: Connection, compiled: Compiled, pending: int) -> list[_Half]:
    """Who finds and stages what: both sessions, side by side, where that is worth it."""
    if compiled.asking.rules:
        return [_Half(writing, reading)]  # what the rules came to is in that session alone
    if pending < WORTH_HALVING:
        return [_Half(reading, writing)]
    return [_Half(reading, writing, 0), _Half(writing, reading, 1)]


def _count_pending(connection: Connection, run: Run) -> int:
    query = sql.SQL("select count(*) as n from ({}) p").format(sql.SQL(SELECT_PENDING).format(**_names(run)))
    return int(queries.value(connection, query))


def _rule(reading: Connection, writing: Connection, mapping: _Mapping) -> None:
    """Evaluates the set's rules over the pending records, and keeps what they come to for as long as the writing
    transaction lasts."""
    asking, rules = mapping.compiled.asking, range(len(mapping.compiled.asking.rules))
    results = sql.SQL(", ").join(sql.SQL("{} jsonb").format(sql.Identifier(result(rule))) for rule in rules)
    writing.execute(sql.SQL(CREATE_RULED).format(results=results))
    reads = sql.SQL(", ").join(
        [sql.SQL("r.payload_hash"), *(read(sql.Identifier("r", "payload"), path) for path in asking.reads)]
    )
    ahead: deque[tuple[str, bytes]] = deque()

    def asked(records: Iterable[tuple[Any, ...]]) -> Iterator[Evaluation]:
        for entity_id, payload_hash, *found in records:
            ahead.append((entity_id, payload_hash))
            yield Evaluation(found)

    with (
        closing(_stream(reading, _select(mapping.run, SELECT_PENDING, reads), tuple_row)) as records,
        writing.cursor().copy("copy pg_temp.ruled from stdin (format binary)") as copy,
    ):
        copy.set_types(["text", "bytea", "jsonb", *("jsonb" for _ in rules)])
        for evaluated in mapping.rules.evaluate(asked(records)):
            for rule, found in enumerate(evaluated.results):
                if found is not None and NUL in found:
                    evaluated.results[rule] = None
                    evaluated.failures[rule] = "its result holds a NUL character, which can't be stored"
            failures = _encode(evaluated.failures).decode().replace(NUL, "") if evaluated.failures else None
            copy.write_row((*ahead.popleft(), failures, *evaluated.results))
    writing.execute("analyze pg_temp.ruled")


def _stage_in_place(half: _Half, mapping: _Mapping) -> int:
    """Stages the pending records that hold nothing odd, without their leaving PostgreSQL. Returns how many."""
    run, compiled = mapping.run, mapping.compiled
    source = _still_ruled(mapping) if compiled.asking.rules else _select(run, SELECT_PENDING + half.only, IN_PLACE)
    return half.source.execute(
        sql.SQL(STAGE_ROWS).format(
            **_names(run),
            mapping_version=sql.Literal(mapping.version),
            columns=sql.SQL(", ").join(map(sql.Identifier, columns(compiled))),
            rows=rows(compiled, source, ["entity_id", "payload_hash", "updated_at"]),
        )
    ).rowcount


def _still_ruled(mapping: _Mapping) -> sql.Composed:
    """The records that rules were evaluated over, with what these came to; but for those that changed since."""
    records = _select(mapping.run, "select * from pg_temp.ruled", IN_PLACE)
    return sql.SQL(SELECT_STILL_RULED).format(records=records)


def _select(run: Run, entities: str, columns: str | sql.Composable) -> sql.Composed:
    """These columns of the records of a query's entities, after those of the query."""
    names = _names(run)
    return sql.SQL(SELECT_RECORDS).format(
        **names,
        entities=sql.SQL(entities).format(**names),
        columns=columns if isinstance(columns, sql.Composable) else sql.SQL(columns),
    )


def _map(half: _Half, mapping: _Mapping) -> tuple[int, int]:
    """Maps the pending records that are not staged yet in this process, and stages them. Returns how many there were,
    and how many of them were rejected."""
    mapped, rejected = 0, 0
    with disable_planner_nodes(half.source, "nestloop"), closing(_left_over(half, mapping)) as records:
        for first in records:
            staged, rejects = _stage(half.target, mapping, chain([first], islice(records, CHUNK - 1)))
            _reject(half.target, mapping.run, rejects)
            mapped, rejected = mapped + staged, rejected + len(rejects)
    return mapped, rejected


def _left_over(half: _Half, mapping: _Mapping) -> Generator[_Pending]:
    """The pending records that are not staged yet, and what the rules came to, where they were evaluated already."""
    entities, rules = SELECT_PENDING + half.only + EXCLUDE_STAGED, range(len(mapping.compiled.asking.rules))
    if not rules or not expressible(mapping.compiled):
        return _stream(half.source, _select(mapping.run, entities, WHOLE_RECORD), args_row(_Pending))
    results = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier("d", result(rule))) for rule in rules)
    names = _names(mapping.run)
    ruled = sql.SQL(SELECT_WITH_RULED).format(results=results, entities=sql.SQL(entities).format(**names))
    whole = sql.SQL(SELECT_RECORDS).format(**names, entities=ruled, columns=sql.SQL(WHOLE_RECORD))
    return _stream(half.source, whole, args_row(_ruled))


def _ruled(entity_id: str, ruled_hash: bytes | None, failures: str | None, *more: Any) -> _Pending:
    *results, payload, payload_hash, updated_at = more
    known = None
    if ruled_hash == payload_hash:
        known = Evaluated(results, _decode(failures) if failures else {})
    return _Pending(entity_id, payload, payload_hash, updated_at, known)


def _stream(connection: Connection, query: sql.Composed, row: RowFactory[T]) -> Generator[T]:
    """A query's rows. Close it: a stream that is left open keeps its connection locked."""
    with connection.cursor(row_factory=row) as cursor:
        yield from cursor.stream(query, binary=True, size=FETCHED_AT_ONCE)


def _stage(connection: Connection, mapping: _Mapping, records: Iterable[_Pending]) -> tuple[int, list[_Rejected]]:
    """Copies the rows that the mappings make, also of records that are rejected: the checks may know more reasons.
    Returns how many there were, and the rejected ones."""
    run = mapping.run
    types = {
        "log_id": "uuid",
        "organization_id": "text",
        "mapping_version": "int4",
        run.entity_type.key: "text",
        "payload_hash": "bytea",
        "softpro_updated_at": "timestamptz",
        **{column: kind.staged for column, kind in mapping.compiled.columns.items()},
    }
    statement = sql.SQL("copy {staging} ({columns}) from stdin (format binary)").format(
        **_names(run), columns=sql.SQL(", ").join(map(sql.Identifier, types))
    )
    ahead: deque[_Pending] = deque()

    def payloads() -> Iterator[tuple[bytes, Evaluated | None]]:
        for record in records:
            ahead.append(record)
            yield record.payload, record.known

    staged, rejects = 0, []
    with connection.cursor().copy(statement) as copy:
        copy.set_types(list(types.values()))
        for values, reasons in mapped(mapping.compiled, payloads(), mapping.rules):
            record = ahead.popleft()
            key = (record.entity_id, record.payload_hash, record.updated_at)
            copy.write_row((run.log_id, run.organization_id, mapping.version, *key, *values))
            staged += 1
            if reasons:
                rejects.append(_Rejected(record, reasons))
    return staged, rejects


def _reject(connection: Connection, run: Run, rejects: list[_Rejected]) -> None:
    if not rejects:
        return
    with connection.cursor().copy(
        "copy staging.rejects (log_id, organization_id, entity_id, payload_hash, reasons) from stdin"
    ) as copy:
        for record, reasons in rejects:
            copy.write_row((run.log_id, run.organization_id, record.entity_id, record.payload_hash, Jsonb(reasons)))


def _names(run: Run) -> dict[str, sql.Composable]:
    """The run's part of the statements. No parameters: texts of the mappings stand in them, which may hold a %."""
    return {
        "staging": sql.Identifier("staging", run.entity_type.table),
        "key": sql.Identifier(run.entity_type.key),
        "integration_id": sql.Literal(run.integration_id),
        "organization_id": sql.Literal(run.organization_id),
        "entity_type": sql.Literal(run.entity_type.value),
        "log_id": sql.Literal(run.log_id),
        "named": sql.SQL("")
        if run.records is None
        else sql.SQL("and entity_id = any({})").format(sql.Literal(list(run.records))),
    }
