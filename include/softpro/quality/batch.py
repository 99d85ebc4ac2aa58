"""What is wrong with a batch as a whole, though each of its records may be good."""

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
from softpro.quality.value_rule_expectations import value

ROW_COUNT = "expect_table_row_count_to_be_between"
ROWS_WORTH_COUNTING = 1_000
"""A stream of no more rows may lose any share of them: a person would be asked for a handful."""

Finding = dict[str, Any]
"""Why a batch is held: {column, rule, message}. Where it is about the table there is no column, but the `rows` that
stand, and by how many the list has `fallen` below them."""


@dataclass(frozen=True)
class BatchLimits:
    """What a batch is measured by: the `targets` that the mappings fill; the `sweep_total` that the vendor announced
    when the full sweep began which brought it (None: none did); whether it is of the stream's `first_load`; the
    `fall_percent` of its rows that a stream may lose."""

    targets: Sequence[str]
    sweep_total: int | None
    first_load: bool
    fall_percent: float


@dataclass(frozen=True)
class BatchFindings:
    """A result, and what it comes to where it holds the batch."""

    result: Result
    finding: Finding | None = None


def duplicates(judged: Judged, records: int) -> BatchFindings:
    """Of an expectation that Great Expectations has judged."""
    expectation, count = judged.expectation, judged.unexpected
    message = f"{expectation.column}: {count} of {records} records share theirs with another one"
    return _found(expectation, expectation.column, records, count, message)


def suddenly_null(
    connection: Connection, run: Run, expectation: Expectation, standard: BatchLimits
) -> Iterator[BatchFindings]:
    """Of each mapped column whether it is null in all records of the batch, though most rows they replace have it.

    New records have nothing to be held against: orders that were opened lately may well lack what older ones have.
    Records that are rejected are none of the batch.
    """
    if standard.first_load or not standard.targets:
        return
    values = {f"value {number}": value(target) for number, target in enumerate(standard.targets)}
    with disable_planner_nodes(connection, "nestloop"):
        batch = _counted(connection, COUNT_BATCH, run, values)
    records = batch["records"]
    if records < expectation.where["records"]:
        return
    empty = {name: values[name] for name in values if not batch[name]}
    with disable_planner_nodes(connection, "nestloop"):
        replaced = _counted(connection, COUNT_REPLACED, run, empty) if empty else {}
    for target, name in zip(standard.targets, values, strict=True):
        rows, having = replaced.get("records", 0), replaced.get(name, 0)
        enough = rows >= expectation.where["records"] and having >= expectation.where["share"] * rows
        lost = name in empty and enough
        message = f"{target} is null in all {records} records, and {having} of the {rows} rows they replace have it"
        yield _found(expectation, target, records, records if lost else 0, message)


def fallen_row_count(connection: Connection, run: Run, standard: BatchLimits) -> Iterator[BatchFindings]:
    """Whether the list of a full sweep was so much shorter than what stands here that most likely it lacks records. It
    may even be empty, and so the batch."""
    if standard.sweep_total is None:
        return
    rows = _counted(connection, COUNT_LIVE, run, {})["records"]
    if rows <= ROWS_WORTH_COUNTING:
        return
    fell = (rows - standard.sweep_total) * 100 > standard.fall_percent * rows
    result = Result(
        ROW_COUNT,
        None,
        "critical",
        "batch",
        {"fall_percent": standard.fall_percent},
        records=rows,
        unexpected=rows - standard.sweep_total if fell else 0,
        success=not fell,
    )
    message = (
        f"SoftPro's list holds {standard.sweep_total} {run.entity_type.table} and {rows} stand here: that is more than "
        f"{standard.fall_percent:g} % fewer"
    )
    finding = {"column": None, "rule": ROW_COUNT, "message": message, "rows": rows, "fallen": result.unexpected}
    yield BatchFindings(result, finding if fell else None)


def each_mapped(expectation: Expectation) -> bool:
    """It stands for one of each column that a mapping fills."""
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


# One look into the index for each, as in transform.
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
    """How many records there are, and how many have each of the values."""
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
