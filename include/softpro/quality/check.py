"""Runs an entity's Great Expectations suite over what a run has staged, inside PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import UUID

import yaml
from psycopg import sql

from softpro.entities import EntityType
from softpro.errors import CheckFailed
from softpro.quality.expectations import great_expectations
from softpro.store import leases
from softpro.store.database import Connection, Database, without
from softpro.store.leases import Run

SUITES = Path(__file__).parent / "suites"

# Great Expectations keeps its context in a global variable: two threads of a process would use each other's.
_ONE_AT_A_TIME = Lock()


@dataclass(frozen=True)
class Checked:
    """How many staged records were rejected, and {expectation: records} of what is unlikely among all of them."""

    rejected: int
    warnings: Mapping[str, int]


def check(database: Database, connection: Connection, run: Run) -> Checked:
    """Rejects the staged records that break a critical expectation, each with all its reasons; counts the warnings.

    Can be run again: it starts from what transform staged. Raises LeaseLost, CheckFailed.
    """
    suite = load_suite(run.entity_type)
    return judge(database, connection, run.entity_type, run.log_id, suite, lambda: leases.fence(connection, run))


def judge(
    database: Database,
    connection: Connection,
    entity_type: EntityType,
    log_id: UUID,
    suite: list[dict[str, Any]],
    fence: Callable[[], object] = lambda: None,
) -> Checked:
    """As `check`, for whatever stands in staging under a log id; `fence` opens the transaction that writes."""
    staged = connection.execute(
        sql.SQL("select exists (select from {} where log_id = %s) as any").format(
            sql.Identifier("staging", entity_type.table)
        ),
        [log_id],
    ).fetchone()
    if not staged or not staged["any"]:
        return Checked(0, {})  # importing Great Expectations alone takes seconds
    session = {"search_path": "staging", "softpro.log_id": str(log_id)}
    try:
        with _ONE_AT_A_TIME:
            broken = _broken(database.set(**session), entity_type, suite)
    except CheckFailed:
        raise
    except Exception as failed:  # it has many kinds of errors of its own
        raise CheckFailed(f"The checks could not run: {next(iter(str(failed).splitlines()), failed)}") from failed
    warnings: dict[str, int] = {}
    with connection.transaction():
        fence()
        for name, value in session.items():
            connection.execute("select set_config(%s, %s, true)", [name, value])
        connection.execute("delete from staging.rejects where log_id = %s and checked", [log_id])
        for result in broken:
            config = result.expectation_config
            if config.severity == "critical":
                with without(connection, "nestloop"):
                    _reject(connection, entity_type, result.result["unexpected_index_query"], config)
            else:
                warnings[_name(config)] = result.result["unexpected_count"]
        rejected = connection.execute(
            "select count(distinct entity_id) as n from staging.rejects where log_id = %s and checked", [log_id]
        ).fetchone()
    assert rejected is not None
    return Checked(rejected["n"], warnings)


def load_suite(entity_type: EntityType) -> list[dict[str, Any]]:
    """The suite's expectations as they stand in its file: type, kwargs, severity."""
    suite: list[dict[str, Any]] = yaml.safe_load((SUITES / f"{entity_type.table}.yaml").read_text(encoding="utf-8"))
    return suite


def _broken(database: Database, entity_type: EntityType, suite: list[dict[str, Any]]) -> list[Any]:
    """The results of the expectations that are broken by what the sessions of this database see in the view: what one
    run staged. Raises CheckFailed where one could not be judged.
    """
    gx = great_expectations()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_sql(
        name="staging",
        connection_string=database.sqlalchemy_url().render_as_string(hide_password=False),
        create_temp_table=False,
    )

    def validate(expectations: list[dict[str, Any]], **result_format: Any) -> list[Any]:
        validated = batch.validate(
            gx.ExpectationSuite(name="suite", expectations=expectations), result_format=result_format
        )
        for result in validated.results:
            _require_ran(result)
        return [result for result in validated.results if not result.success]

    try:
        asset = source.add_table_asset(name="run", table_name=_view(entity_type))
        batch = asset.add_batch_definition_whole_table("run").get_batch()
        numbered = [{**expectation, "meta": {"number": number}} for number, expectation in enumerate(suite)]
        # Most are kept: which are not is asked of all in one query, and the rest, in several, only of those.
        broken = validate(numbered, result_format="BOOLEAN_ONLY")
        return broken and validate(
            [numbered[result.expectation_config.meta["number"]] for result in broken],
            result_format="BASIC",  # the fuller ones fetch every value that is unexpected
            unexpected_index_column_names=[entity_type.key],
            return_unexpected_index_query=True,
        )
    finally:
        # It tests the connection with one engine and validates with another.
        source.get_engine().dispose()
        source.get_execution_engine().engine.dispose()


def _require_ran(result: Any) -> None:
    """Raises CheckFailed where the expectation raised instead of judging; its news of that is nested, or not."""
    info = result.exception_info or {}
    for news in [info] if "raised_exception" in info else info.values():
        if news["raised_exception"]:
            message = str(news["exception_message"]).splitlines()[0]
            raise CheckFailed(f"The check {_name(result.expectation_config)} could not run: {message}")


def _reject(connection: Connection, entity_type: EntityType, query: str, config: Any) -> None:
    """Rejects the rows that the expectation's own query finds: its list of them stops at 20."""
    rows = query.rstrip("; \n")
    connection.execute(
        sql.SQL(
            """
            insert into staging.rejects (log_id, organization_id, entity_id, payload_hash, reasons, checked)
            select s.log_id, s.organization_id, s.{key}, s.payload_hash,
                   jsonb_build_array(jsonb_build_object(
                       'column', {column}, 'rule', {rule}, 'message', {message} || coalesce(s.{name}::text, 'null'))),
                   true
            from {staged} s
            where s.{key} in (select {key} from ({rows}) bad)
            """
        ).format(
            key=sql.Identifier(entity_type.key),
            name=sql.Identifier(_column(config)),
            column=sql.Literal(_column(config)),
            rule=sql.Literal(config.type),
            message=sql.Literal(_message(config)),
            staged=sql.Identifier("staging", _view(entity_type)),
            rows=sql.SQL(rows),
        )
    )


def _view(entity_type: EntityType) -> str:
    return f"run_{entity_type.table}"


def _column(config: Any) -> str:
    return str(config.kwargs.get("column") or config.kwargs["column_A"])


def _name(config: Any) -> str:
    return f"{_column(config)} {config.type.removeprefix('expect_column_').removeprefix('values_to_')}"


def _message(config: Any) -> str:
    shown = {name: value for name, value in config.kwargs.items() if name not in ("batch_id", "column")}
    return f"expected {config.type.removeprefix('expect_column_values_').replace('_', ' ')} {shown}, found "
