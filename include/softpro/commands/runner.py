"""Run a command over the streams of an organization, one after the other, and print the result of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import typer

from softpro.commands.common import say
from softpro.commands.progress import progress_bar
from softpro.db import integrations, sync_logs
from softpro.db.database import Database
from softpro.entities import EntityType
from softpro.errors import NotConnected, SoftProError
from softpro.runs import sync

if TYPE_CHECKING:
    from softpro.db.integrations import Integration
    from softpro.db.sync_logs import SyncLog
    from softpro.runs.pipeline import Stage
    from softpro.sync.extract import Progress

    Run = Callable[[Integration, EntityType, str, Progress, Stage], "RunOutcome"]

EXIT_FAILED, EXIT_WRONG_USE, EXIT_INTERRUPTED = 1, 2, 130


class RunOutcome(NamedTuple):
    """The result of a run over one stream.

    Attributes:
        result: The JSON object that `--json` prints.
        line: The text that is printed otherwise.
        problems: Reasons why the run failed; empty after success.
    """

    result: dict[str, Any]
    line: str
    problems: list[str]


def run_streams(
    database: Database,
    organization: str,
    wanted: list[EntityType] | None,
    run: Run,
    as_json: bool,
) -> None:
    """Run the organization's streams one after the other, and print the result of each.

    Args:
        database: The product's database.
        organization: The organization's id in ROI Systems.
        wanted: The entity types to run; None for all that are switched on.
        run: Runs one stream.
        as_json: Print JSON objects instead of lines.

    Raises:
        typer.Exit: A stream failed (code 1), or the user pressed Ctrl-C (130).
        NotConnected: The organization has no grant.
    """
    with database.connect() as connection:
        integration = integrations.find(connection, organization)
    run_id, ended_well = f"cli__{uuid4()}", True
    for entity_type in sync.organization_streams(integration, wanted):
        try:
            with progress_bar(entity_type) as (progress, stage):
                outcome = run(integration, entity_type, run_id, progress, stage)
        except NotConnected:  # no other stream can run either
            raise
        except SoftProError as failed:
            ended_well = False
            say(f"{entity_type.table}: {failed}")
            continue
        except KeyboardInterrupt:
            say(f"{entity_type.table}: stopped; nothing is lost, and the next run resumes here")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        print(json.dumps(outcome.result) if as_json else outcome.line, flush=True)
        for problem in outcome.problems:
            ended_well = False
            say(f"{entity_type.table}: {problem}")
    if not ended_well:
        raise typer.Exit(EXIT_FAILED)


def outcome_of(log: SyncLog) -> RunOutcome:
    """Return the outcome of a sync, read from its log."""
    return RunOutcome(sync_logs.sync_result(log), summary(log), [] if log.succeeded else [str(log.error_message)])


def summary(log: SyncLog) -> str:
    """Return the line that `sync` prints for one stream."""
    succeeded = log.records_processed - log.records_failed
    unchanged = succeeded - log.records_inserted - log.records_updated
    unlikely = sum(log.warnings.values())
    return (
        f"{log.entity_type.lower()}s {log.status}: {log.records_fetched} fetched, {succeeded} loaded "
        f"({log.records_inserted} new, {log.records_updated} changed, {unchanged} unchanged), "
        f"{log.records_failed} quarantined, {unlikely} warnings, "
        f"{log.api_requests} API requests, {(log.duration or 0) / 1000:.1f} s"
    )
