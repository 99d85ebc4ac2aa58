"""Find what is wrong with a batch as a whole, even if each of its records is valid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from softpro.db import queries
from softpro.db.database import Connection, disable_planner_nodes
from softpro.db.leases import Run
from softpro.quality.gx_runner import Judged, view
from softpro.quality.results import Result
from softpro.quality.suite import EACH_MAPPED, Expectation
from softpro.quality.value_rule_expectations import target_value

ROW_COUNT = "expect_table_row_count_to_be_between"
MIN_ROWS_TO_COUNT = 1_000
"""A stream of at most this many rows may lose any share, so that a handful of rows never needs a decision."""

Finding = dict[str, Any]
"""Why a batch is held: {column, rule, message}. A finding about the row count has no column. It has the number of
`rows` in the table, and by how many the list has `fallen` below it."""


@dataclass(frozen=True)
class BatchLimits:
    """The limits for a batch.

    Attributes:
        targets: the targets that the mappings fill.
        sweep_total: the number of records that the vendor announced when the full sweep began, or None without a sweep.
        first_load: the batch belongs to the first load of the stream.
        fall_percent: the percentage of its rows that a stream may lose.
    """

    targets: Sequence[str]
    sweep_total: int | None
    first_load: bool
    fall_percent: float


@dataclass(frozen=True)
class BatchFindings:
    """A check result, and the finding if it holds the batch."""

    result: Result
    finding: Finding | None = None


def duplicates(judged: Judged, records: int) -> BatchFindings:
    """Return the result of an expectation about duplicates that Great Expectations has evaluated."""
    expectation, count = judged.expectation, judged.unexpected
    message = f"{expectation.column}: {count} of {records} records share their value with another record"
    return _found(expectation, expectation.column, records, count, message)


def suddenly_null(
    connection: Connection, run: Run, expectation: Expectation, limits: BatchLimits
) -> Iterator[BatchFindings]:
    """Check for each mapped column that not all records are null if most of the rows that they replace have a value.

    New records are not compared, because orders that were opened lately may well lack fields that older ones have.
    Rejected records do not count.
    """
    if limits.first_load or not limits.targets:
        return
    values = {f"value {number}": target_value(target) for number, target in enumerate(limits.targets)}
    with disable_planner_nodes(connection, "nestloop"):
        batch = _counted(connection, COUNT_BATCH, run, values)
    records = batch["records"]
    if records < expectation.where["records"]:
        return
    empty = {name: values[name] for name in values if not batch[name]}
    with disable_planner_nodes(connection, "nestloop"):
        replaced = _counted(connection, COUNT_REPLACED, run, empty) if empty else {}
    for target, name in zip(limits.targets, values, strict=True):
        rows, having = replaced.get("records", 0), replaced.get(name, 0)
        enough = rows >= expectation.where["records"] and having >= expectation.where["share"] * rows
        lost = name in empty and enough
        message = f"{target} is null in all {records} records, and {having} of the {rows} rows they replace have it"
        yield _found(expectation, target, records, records if lost else 0, message)


def fallen_row_count(connection: Connection, run: Run, limits: BatchLimits) -> Iterator[BatchFindings]:
    """Check that the list of a full sweep is not much shorter than the table, which would suggest missing records.

    The list, and therefore the batch, may even be empty.
    """
    if limits.sweep_total is None:
        return
    rows = _counted(connection, COUNT_LIVE, run, {})["records"]
    if rows <= MIN_ROWS_TO_COUNT:
        return
    fell = (rows - limits.sweep_total) * 100 > limits.fall_percent * rows
    result = Result(
        ROW_COUNT,
        None,
        "critical",
        "batch",
        {"fall_percent": limits.fall_percent},
        records=rows,
        unexpected=rows - limits.sweep_total if fell else 0,
        success=not fell,
    )
    message = (
        f"SoftPro's list holds {limits.sweep_total} {run.entity_type.table}, the table {rows}: a fall of more than "
        f"{limits.fall_percent:g} %"
    )
    finding = {"column": None, "rule": ROW_COUNT, "message": message, "rows": rows, "fallen": result.unexpected}
    yield BatchFindings(result, finding if fell else None)


def each_mapped(expectation: Expectation) -> bool:
    """Return whether the expectation applies to each column that a mapping fills."""
    return expectation.column == EACH_MAPPED


COUNT_BATCH = """
select count(*) as records {counts}
from staging.{view} s
where not exists (select from staging.rejects r where r.log_id = s.log_id and r.entity_id = s.{key})
"""
COUNT_LIVE = """
select count(*) as records {counts}
from roi.{table}
where organization_id = {organization_id} and deleted_at is null
"""


# One index lookup for each record, as in transform.
COUNT_REPLACED = """
select count(*) as records {counts}
from (
    select s.{key} as replacing
    from staging.{view} s
    where not exists (select from staging.rejects r where r.log_id = s.log_id and r.entity_id = s.{key})
) s
cross join lateral (
    select *
    from roi.{table}
    where organization_id = {organization_id} and {key} = replacing and deleted_at is null
    offset 0
) t
"""


def _counted(connection: Connection, query: str, run: Run, values: dict[str, sql.Composable]) -> dict[str, int]:
    """Count the records, and those that have each of the values."""
    counts = [sql.SQL(", count({}) as {}").format(each, sql.Identifier(name)) for name, each in values.items()]
    return queries.one(
        connection,
        sql.SQL(query).format(
            counts=sql.SQL("").join(counts),
            view=sql.Identifier(view(run.entity_type)),
            table=sql.Identifier(run.entity_type.table),
            key=sql.Identifier(run.entity_type.key),
            organization_id=sql.Literal(run.organization_id),
        ),
    )


def _found(expectation: Expectation, column: str, records: int, unexpected: int, message: str) -> BatchFindings:
    result = Result(
        expectation.type,
        column,
        expectation.severity,
        expectation.level,
        expectation.shown,
        records,
        unexpected,
        success=not unexpected,
    )
    holds = unexpected and expectation.severity == "critical"
    return BatchFindings(result, {"column": column, "rule": expectation.type, "message": message} if holds else None)
