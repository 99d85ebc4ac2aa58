"""Check the records that a run staged, one by one and as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg
from psycopg import sql

from softpro.db import leases, queries
from softpro.db.database import Connection, Database, disable_planner_nodes
from softpro.db.leases import Run
from softpro.entities import EntityType
from softpro.errors import BatchHeld
from softpro.quality import batch, holds, results
from softpro.quality.batch import BatchFindings, BatchLimits
from softpro.quality.gx_runner import STATEMENT_TIMEOUT_SECONDS, Judged, judge, timeout_error, view
from softpro.quality.results import Result
from softpro.quality.suite import suite_of
from softpro.quality.value_rule_expectations import Demand, expectations

SHOWN_CHARACTERS = 100


@dataclass(frozen=True)
class Checked:
    """The number of staged records that were rejected."""

    rejected: int


def check(
    database: Database, connection: Connection, run: Run, demands: Sequence[Demand], limits: BatchLimits
) -> Checked:
    """Reject the staged records that break a critical expectation, each with all its reasons, and stage the results.

    The check can be repeated: it starts from the staged records. A run over named records has no batch to check.

    Args:
        database: opens the sessions of Great Expectations.
        connection: a connection in autocommit.
        run: the run, whose lease is fenced.
        demands: the validation rules of the mappings.
        limits: the limits for the batch as a whole.

    Raises:
        LeaseLost: another run took over the stream.
        CheckFailed: a check could not run.
        BatchHeld: a user has to decide about the batch.
    """
    if run.records is not None and holds.is_waiting(connection, run):
        raise BatchHeld(f"A batch of these {run.entity_type.table} is held: the fetched records stay pending with it")
    records = _staged(connection, run)
    judged: list[Judged] = []
    if records:  # importing Great Expectations alone takes seconds
        judged = judge_staged(database, run.entity_type, run.log_id, demands)
    elif run.records is not None or (limits.sweep_total is None and not holds.is_waiting(connection, run)):
        return Checked(0)
    try:
        with connection.transaction():
            leases.fence(connection, run)
            rejected = reject(connection, run.entity_type, run.log_id, judged)
            found = _of_batch(connection, run, judged, limits, records) if run.records is None else []
            rows = [_result(each, records) for each in judged if each.expectation.level == "row"]
            results.stage(connection, run, [*rows, *(each.result for each in found)])
            held = None
            if run.records is None:
                held = holds.review(connection, run, [each.finding for each in found if each.finding], records)
            if held is not None and not held.again:
                results.keep(connection, run)
    except psycopg.errors.QueryCanceled:
        raise timeout_error() from None
    if held is not None:
        raise held
    return Checked(rejected)


def _staged(connection: Connection, run: Run) -> int:
    return int(
        queries.value(
            connection,
            sql.SQL("select count(*) as n from {} where log_id = %s").format(
                sql.Identifier("staging", run.entity_type.table)
            ),
            [run.log_id],
        )
    )


def judge_staged(
    database: Database,
    entity_type: EntityType,
    log_id: UUID,
    demands: Sequence[Demand],
    seconds: float | None = None,
) -> list[Judged]:
    """Evaluate the suite and the demands for the records that are staged under a log id.

    Args:
        seconds: the limit for each statement; by default `STATEMENT_TIMEOUT_SECONDS`.

    Raises:
        CheckFailed: a check could not run.
    """
    suite = [each for each in suite_of(entity_type) if not batch.each_mapped(each)]
    return judge(database.set(**_session(log_id, seconds)), entity_type, [*suite, *expectations(entity_type, demands)])


def reject(
    connection: Connection,
    entity_type: EntityType,
    log_id: UUID,
    judged: Sequence[Judged],
    seconds: float | None = None,
) -> int:
    """Reject every record that breaks a critical expectation, and return the number of rejected records.

    Call it inside a transaction. `seconds` limits each statement as in `judge_staged`.
    """
    for name, value in _session(log_id, seconds).items():
        connection.execute("select set_config(%s, %s, true)", [name, value])
    connection.execute("delete from staging.rejects where log_id = %s and checked", [log_id])
    for each in judged:
        if each.unexpected and (each.expectation.severity, each.expectation.level) == ("critical", "row"):
            with disable_planner_nodes(connection, "nestloop"):
                _reject(connection, entity_type, each)
    return int(
        queries.value(
            connection,
            "select count(distinct entity_id) as n from staging.rejects where log_id = %s and checked",
            [log_id],
        )
    )


def _of_batch(
    connection: Connection, run: Run, judged: Sequence[Judged], limits: BatchLimits, records: int
) -> list[BatchFindings]:
    """Return the findings about the batch as a whole, once its bad records are rejected."""
    found = [batch.duplicates(each, records) for each in judged if each.expectation.level == "batch"]
    for expectation in suite_of(run.entity_type):
        if batch.each_mapped(expectation):
            found.extend(batch.suddenly_null(connection, run, expectation, limits))
    return [*found, *batch.fallen_row_count(connection, run, limits)]


def _session(log_id: UUID, seconds: float | None = None) -> dict[str, str]:
    """Return the session settings that select the run's records in the view and limit each statement."""
    return {
        "search_path": "staging",
        "softpro.log_id": str(log_id),
        "statement_timeout": f"{(seconds or STATEMENT_TIMEOUT_SECONDS) * 1000:.0f}",
    }


def _reject(connection: Connection, entity_type: EntityType, broken: Judged) -> None:
    """Reject the rows that the expectation's query finds, because its list of them ends at 20.

    Great Expectations writes the query for a suite's expectation, and `value_rule_expectations` for a customer's rule.
    """
    assert broken.query is not None
    expectation = broken.expectation
    connection.execute(
        sql.SQL(
            """
            insert into staging.rejects (log_id, organization_id, entity_id, payload_hash, reasons, checked)
            select s.log_id, s.organization_id, s.{key}, s.payload_hash,
                   jsonb_build_array(jsonb_build_object(
                       'column', {column}, 'rule', {rule}, 'message', {message} || coalesce(
                           left(f.found, {most}) || case when length(f.found) > {most} then '…' else '' end, 'null'))),
                   true
            from {staged} s
            cross join lateral (select ({found})::text as found offset 0) f
            where s.{key} in (select {key} from ({rows}) bad)
            """
        ).format(
            key=sql.Identifier(entity_type.key),
            found=sql.SQL(expectation.found),
            column=sql.Literal(expectation.column),
            rule=sql.Literal(expectation.rule),
            message=sql.Literal(expectation.message),
            most=sql.Literal(SHOWN_CHARACTERS),
            staged=sql.Identifier("staging", view(entity_type)),
            rows=sql.SQL(broken.query),
        )
    )


def _result(judged: Judged, records: int) -> Result:
    expectation = judged.expectation
    return Result(
        expectation.rule,
        expectation.column,
        expectation.severity,
        expectation.level,
        expectation.shown,
        records,
        judged.unexpected,
        success=not judged.unexpected,
    )
