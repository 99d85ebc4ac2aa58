"""Map the pending records of `raw` into `staging`.

If SQL can express the mappings, PostgreSQL does the mapping, and only odd records stream through this process.
Otherwise all records do. Rules always run in this process: their inputs stream out first, and their results back in.
Two sessions stage half of a large volume each. Reading and writing use separate connections, so memory stays constant.
See docs/design/sync.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from psycopg import adapters, sql
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from softpro.db import leases, locks, sync_logs
from softpro.db.database import Connection, disable_planner_nodes
from softpro.db.leases import Run
from softpro.db.locks import Lock
from softpro.entities import EntityType
from softpro.mapping import repository
from softpro.mapping.compiler import Compiled, compile_mappings, map_records
from softpro.mapping.rules.account import RuleBudget
from softpro.mapping.rules.evaluator import Rules, evaluating
from softpro.mapping.rules.messages import Evaluated, Evaluation
from softpro.mapping.sql_compiler import columns, is_expressible, json_at, mapped_rows, rule_column
from softpro.mapping.step import Reason
from softpro.softpro360.records import Record
from softpro.sync import cursors
from softpro.sync.pending_records import (
    IN_PLACE,
    SELECT_PENDING,
    Pending,
    count_pending,
    names,
    select,
    stream,
    stream_pending,
    stream_with_results,
)

COPY_RECORDS = 2_000
"""The number of records copied at a time; their rejects wait in memory until they are copied."""

# The results of the rules for each record, or why a rule failed.
CREATE_RULE_RESULTS = """
create temporary table ruled (entity_id text collate "C", ruled_hash bytea, failures jsonb, {results})
on commit drop
"""
# A version landed since has another hash. This process maps it, like the records on which a rule failed.
SELECT_CURRENT_RULE_RESULTS = "select * from ({records}) r where payload_hash = ruled_hash and failures is null"
STAGE_ROWS = """
insert into {staging}
    (log_id, organization_id, mapping_version, {key}, payload_hash, softpro_updated_at, {columns})
select {log_id}, {organization_id}, {mapping_version}, entity_id, payload_hash, updated_at, {columns}
from ({rows}) r
where odd is not true
"""
# `except` is never planned as a nested loop.
EXCLUDE_STAGED = "except select {key} from {staging} where log_id = {log_id}"
MIN_PARALLEL_RECORDS = 5_000
"""From this number of pending records on, two sessions stage them in parallel: even and odd hashes."""
NUL = "\\u0000"
LEFT_LOAD_SECONDS = 60.0
"""How long records that the rules had no time for rest, unless the stream's next sync maps them earlier."""

_encode = msgspec.json.encode


class _JsonText(Dumper):
    """A dumper of JSON text as binary jsonb, which begins with its version, 1."""

    format, oid = Format.BINARY, adapters.types["jsonb"].oid

    def dump(self, obj: str) -> bytes:
        return b"\x01" + obj.encode()


@dataclass(frozen=True)
class Transformed:
    """The outcome of a transform.

    Attributes:
        staged: pending records that were staged.
        rejected: records that could not be mapped.
        left: the rules had no time for the remaining records, which stay pending.
    """

    staged: int
    rejected: int
    left: bool = False


class _Mapping(NamedTuple):
    """The mapping set of a run: its version, its compiled mappings, and the process that evaluates its rules."""

    run: Run
    version: int | None
    compiled: Compiled
    rules: Rules


@dataclass(frozen=True)
class _Half:
    """The pending records of one `parity`, or all of them.

    Attributes:
        source: the connection that finds them and stages what PostgreSQL can map.
        target: the connection that stages what this process maps, while `source` streams.
        parity: 0 for even hashes, 1 for odd ones, None for all.
    """

    source: Connection
    target: Connection
    parity: int | None = None

    @property
    def only(self) -> str:
        return "" if self.parity is None else f"and hashtext(entity_id) & 1 = {self.parity} "


class _Rejected(NamedTuple):
    pending: Pending
    reasons: list[Reason]


def transform(reading: Connection, writing: Connection, run: Run, budget: RuleBudget | None = None) -> Transformed:
    """Stage the stream's pending records under the run's log id, replacing what an earlier attempt staged.

    A run over named records stages only those. Both connections reach the same database. Records that are left at the
    budget's deadline are due for another load. A stream with slow rules is marked, and synced apart from the others.

    Args:
        reading: the connection that streams records.
        writing: the connection that stages them.
        run: the run.
        budget: the limits of the rules. Default: those of a run, without a deadline.

    Raises:
        LeaseLost: another run took over the stream.
        RulesUnavailable: the rules can't be evaluated.
    """
    in_force = repository.current(writing, run.stream)
    compiled = compile_mappings(run.entity_type, in_force.mappings)
    with reading.transaction(), writing.transaction(), evaluating(compiled.rule_inputs.rules, budget) as rules:
        # Both write to one table. A request to lock all of it would wait for one of them and block the other.
        reading.execute("set local lock_timeout = '30s'")
        # An attempt that was presumed dead but still runs stages under the same log id.
        locks.lock_in_transaction(reading, Lock.TRANSFORM, run.log_id)
        for connection in (reading, writing):
            leases.fence(connection, run)
            connection.adapters.register_dumper(None, _JsonText)
        clear_staging(writing, run.entity_type, run.log_id)
        mapping, pending = _Mapping(run, in_force.version, compiled, rules), count_pending(reading, run)
        if not pending:  # the usual case; it needs no temporary table
            return Transformed(0, 0)
        if compiled.rule_inputs.rules and is_expressible(compiled):
            _evaluate_rules(reading, writing, mapping)
        in_place, mapped, rejected = 0, 0, 0
        halves = _halves(reading, writing, compiled, pending)
        if is_expressible(compiled):
            with ThreadPoolExecutor(len(halves)) as pool:
                in_place = sum(pool.map(lambda half: _stage_in_place(half, mapping), halves))
        for half in halves if in_place < pending else []:
            more, bad = _map(half, mapping)
            mapped, rejected = mapped + more, rejected + bad
        # Last, because a thread that lands records updates the same rows and would wait.
        sync_logs.record_mapping_version(writing, run.log_id, in_force.version)
        if rules.ended:
            cursors.mark_load_due(writing, run.stream, LEFT_LOAD_SECONDS)
        if rules.slow:
            cursors.mark_slow_rules(writing, run.stream)
    return Transformed(in_place + mapped - rejected, rejected, rules.ended)


def stage(connection: Connection, run: Run, records: Iterable[Record]) -> None:
    """Stage these records under the run's log id, replacing what it had staged. Raises RulesUnavailable.

    Call it in a transaction.
    """
    in_force = repository.current(connection, run.stream)
    compiled = compile_mappings(run.entity_type, in_force.mappings)
    pending = [Pending(each.key.id, each.payload, each.payload_hash, each.key.updated_at) for each in records]
    connection.adapters.register_dumper(None, _JsonText)
    clear_staging(connection, run.entity_type, run.log_id)
    with evaluating(compiled.rule_inputs.rules) as rules:
        _, rejected = _stage(connection, _Mapping(run, in_force.version, compiled, rules), pending)
    _reject(connection, run, rejected)
    sync_logs.record_mapping_version(connection, run.log_id, in_force.version)


def clear_staging(connection: Connection, entity_type: EntityType, log_id: UUID) -> None:
    """Delete what a run has in staging."""
    for table in (entity_type.table, "rejects", "check_results"):
        connection.execute(
            sql.SQL("delete from {} where log_id = %s").format(sql.Identifier("staging", table)), [log_id]
        )


def _halves(reading: Connection, writing: Connection, compiled: Compiled, pending: int) -> list[_Half]:
    """Split the pending records between both sessions if their number is worth it."""
    if compiled.rule_inputs.rules:
        return [_Half(writing, reading)]  # the results of the rules are in a temporary table of `writing`
    if pending < MIN_PARALLEL_RECORDS:
        return [_Half(reading, writing)]
    return [_Half(reading, writing, 0), _Half(writing, reading, 1)]


def _evaluate_rules(reading: Connection, writing: Connection, mapping: _Mapping) -> None:
    """Evaluate the set's rules for the pending records, and keep the results until the writing transaction ends."""
    asking, rules = mapping.compiled.rule_inputs, range(len(mapping.compiled.rule_inputs.rules))
    results = sql.SQL(", ").join(sql.SQL("{} jsonb").format(sql.Identifier(rule_column(rule))) for rule in rules)
    writing.execute(sql.SQL(CREATE_RULE_RESULTS).format(results=results))
    reads = sql.SQL(", ").join(
        [sql.SQL("r.payload_hash"), *(json_at(sql.Identifier("r", "payload"), path) for path in asking.reads)]
    )
    ahead: deque[tuple[str, bytes]] = deque()

    def evaluations(records: Iterable[tuple[Any, ...]]) -> Iterator[Evaluation]:
        for entity_id, payload_hash, *found in records:
            ahead.append((entity_id, payload_hash))
            yield Evaluation(found)

    with (
        closing(stream(reading, select(mapping.run, SELECT_PENDING, reads), tuple_row)) as records,
        writing.cursor().copy("copy pg_temp.ruled from stdin (format binary)") as copy,
    ):
        copy.set_types(["text", "bytea", "jsonb", *("jsonb" for _ in rules)])
        for evaluated in mapping.rules.evaluate(evaluations(records)):
            for rule, found in enumerate(evaluated.results):
                if found is not None and NUL in found:
                    evaluated.results[rule] = None
                    evaluated.failures[rule] = "its result contains a NUL character, which can't be stored"
            failures = _encode(evaluated.failures).decode().replace(NUL, "") if evaluated.failures else None
            copy.write_row((*ahead.popleft(), failures, *evaluated.results))
    writing.execute("analyze pg_temp.ruled")


def _stage_in_place(half: _Half, mapping: _Mapping) -> int:
    """Stage the pending records without odd values inside PostgreSQL, and return their number."""
    run, compiled = mapping.run, mapping.compiled
    source = (
        _current_rule_results(mapping)
        if compiled.rule_inputs.rules
        else select(run, SELECT_PENDING + half.only, IN_PLACE)
    )
    return half.source.execute(
        sql.SQL(STAGE_ROWS).format(
            **names(run),
            mapping_version=sql.Literal(mapping.version),
            columns=sql.SQL(", ").join(map(sql.Identifier, columns(compiled))),
            rows=mapped_rows(compiled, source, ["entity_id", "payload_hash", "updated_at"]),
        )
    ).rowcount


def _current_rule_results(mapping: _Mapping) -> sql.Composed:
    """Select the records for which rules were evaluated, with the results, except those that changed since."""
    records = select(mapping.run, "select * from pg_temp.ruled", IN_PLACE)
    return sql.SQL(SELECT_CURRENT_RULE_RESULTS).format(records=records)


def _map(half: _Half, mapping: _Mapping) -> tuple[int, int]:
    """Map the pending records that are not staged yet in this process, and stage them.

    It stops where the rules end. If they ended before, it maps the records with known results.

    Returns:
        The number of records mapped, and how many of them were rejected.
    """
    mapped, rejected, had_ended = 0, 0, mapping.rules.ended
    with disable_planner_nodes(half.source, "nestloop"), closing(_left_over(half, mapping)) as records:
        for first in records:
            staged, rejects = _stage(half.target, mapping, chain([first], islice(records, COPY_RECORDS - 1)))
            _reject(half.target, mapping.run, rejects)
            mapped, rejected = mapped + staged, rejected + len(rejects)
            if mapping.rules.ended and not had_ended:
                break
    return mapped, rejected


def _left_over(half: _Half, mapping: _Mapping) -> Generator[Pending]:
    """Stream the pending records that are not staged yet, with the results of the rules if they were evaluated.

    Once the rules have ended, only records with such results are streamed.
    """
    entities, rules = SELECT_PENDING + half.only + EXCLUDE_STAGED, len(mapping.compiled.rule_inputs.rules)
    if not rules or not is_expressible(mapping.compiled):
        return stream_pending(half.source, mapping.run, entities)
    return stream_with_results(half.source, mapping.run, entities, rules, only_evaluated=mapping.rules.ended)


def _stage(connection: Connection, mapping: _Mapping, records: Iterable[Pending]) -> tuple[int, list[_Rejected]]:
    """Copy the mapped rows into staging, and return their number and the rejected records.

    Rejected records are staged too, because the checks may find more reasons.
    """
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
        **names(run), columns=sql.SQL(", ").join(map(sql.Identifier, types))
    )
    ahead: deque[Pending] = deque()

    def payloads() -> Iterator[tuple[bytes, Evaluated | None]]:
        for record in records:
            ahead.append(record)
            yield record.payload, record.known

    staged, rejects = 0, []
    with connection.cursor().copy(statement) as copy:
        copy.set_types(list(types.values()))
        for values, reasons in map_records(mapping.compiled, payloads(), mapping.rules):
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
