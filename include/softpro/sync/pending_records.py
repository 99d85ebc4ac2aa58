"""Read the pending records of a stream from `raw`, with the results of the mapping rules if they were evaluated."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
from psycopg import sql
from psycopg.rows import RowFactory, args_row

from softpro.db import queries
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.mapping.rules.messages import Evaluated
from softpro.mapping.sql_compiler import rule_column

# One index lookup per record. PostgreSQL expects a stream to have few records, and could otherwise scan all of them for
# each one. `offset 0` prevents a join plan.
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
SELECT_WITH_RULE_RESULTS = """
select n.entity_id, d.ruled_hash, d.failures::text, {results}
from ({entities}) n
{join} pg_temp.ruled d on d.entity_id = n.entity_id
"""
FETCH_SIZE = 200

_decode = msgspec.json.Decoder(dict[int, str]).decode

T = TypeVar("T")


class Pending(NamedTuple):
    """A pending record; `known` holds the results of the rules if they were evaluated for this payload."""

    entity_id: str
    payload: bytes
    payload_hash: bytes
    updated_at: datetime
    known: Evaluated | None = None


def count_pending(connection: Connection, run: Run) -> int:
    """Return the number of pending records that the run takes."""
    query = sql.SQL("select count(*) as n from ({}) p").format(sql.SQL(SELECT_PENDING).format(**names(run)))
    return int(queries.value(connection, query))


def select(run: Run, entities: str, columns: str | sql.Composable) -> sql.Composed:
    """Select these columns of the records that a query of entities names, after that query's own columns."""
    of_run = names(run)
    return sql.SQL(SELECT_RECORDS).format(
        **of_run,
        entities=sql.SQL(entities).format(**of_run),
        columns=columns if isinstance(columns, sql.Composable) else sql.SQL(columns),
    )


def stream_pending(connection: Connection, run: Run, entities: str) -> Generator[Pending]:
    """Stream the records that a query of entities names."""
    return stream(connection, select(run, entities, WHOLE_RECORD), args_row(Pending))


def stream_with_results(
    connection: Connection, run: Run, entities: str, rules: int, *, only_evaluated: bool
) -> Generator[Pending]:
    """Stream the records that a query of entities names, with the results in `pg_temp.ruled`.

    Args:
        connection: the connection that has that table.
        run: the run.
        entities: the query.
        rules: the number of rules.
        only_evaluated: leave out records for whose payload the rules were not evaluated.
    """
    results = sql.SQL(", ").join(
        sql.SQL("{}::text").format(sql.Identifier("d", rule_column(rule))) for rule in range(rules)
    )
    of_run = names(run)
    ruled = sql.SQL(SELECT_WITH_RULE_RESULTS).format(
        results=results,
        entities=sql.SQL(entities).format(**of_run),
        join=sql.SQL("join" if only_evaluated else "left join"),
    )
    whole = sql.SQL(SELECT_RECORDS).format(**of_run, entities=ruled, columns=sql.SQL(WHOLE_RECORD))
    with closing(stream(connection, whole, args_row(_pending_with_results))) as records:
        yield from (record for record in records if record.known is not None or not only_evaluated)


def _pending_with_results(entity_id: str, ruled_hash: bytes | None, failures: str | None, *more: Any) -> Pending:
    *results, payload, payload_hash, updated_at = more
    known = None
    if ruled_hash == payload_hash:
        known = Evaluated(results, _decode(failures) if failures else {})
    return Pending(entity_id, payload, payload_hash, updated_at, known)


def stream(connection: Connection, query: sql.Composed, row: RowFactory[T]) -> Generator[T]:
    """Yield a query's rows. Close the generator: an open stream blocks its connection."""
    with connection.cursor(row_factory=row) as cursor:
        yield from cursor.stream(query, binary=True, size=FETCH_SIZE)


def names(run: Run) -> dict[str, sql.Composable]:
    """Return the run's parts of the statements. Parameters are not used: mapping texts in the SQL may contain a %."""
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
