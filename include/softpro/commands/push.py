"""Send edits of `roi` to SoftPro, or show them: `python -m softpro push ORG`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from softpro.commands.common import Json, Organization, database, entity_types, printable, say
from softpro.commands.formatting import table, value
from softpro.commands.runner import RunOutcome, outcome_of, run_streams
from softpro.db import integrations
from softpro.entities import EntityType, SyncType
from softpro.errors import UsageError
from softpro.runs import push as runs_push
from softpro.runs.sync import organization_streams
from softpro.services import services
from softpro.settings import ReconcileSettings, load
from softpro.timestamps import format_milliseconds
from softpro.writeback import conflicts, push_attempts

if TYPE_CHECKING:
    from softpro.db.database import Database
    from softpro.db.integrations import Integration
    from softpro.runs.pipeline import Stage
    from softpro.sync.extract import Progress
    from softpro.writeback.dry_run import Outgoing
    from softpro.writeback.push_attempts import Push

MAX_SHOWN = 20
DRY_RUN_PAGE = 100
"""Number of records that a dry run plans together."""


def push(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    record: Annotated[
        list[UUID] | None,
        typer.Option(
            metavar="ROI_ID",
            help="The id of a row in roi, of one --entity. Sends only this row, due or not. Repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be sent for each record, or why not. Send nothing."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Send changes in ROI Systems to SoftPro.

    Prints a line for each record that waits or failed, with the reason.
    """
    if record and entity == "all":
        raise UsageError("--record requires --entity transactions or --entity contacts")
    if dry_run:
        _dry_run(database(), organization, entity_types(entity), record, context.obj or as_json)
        return
    services_ = services(database())

    def run(
        integration: Integration, entity_type: EntityType, run_id: str, progress: Progress, stage: Stage
    ) -> RunOutcome:
        last_result = ""

        def keep_result(name: str, result: str) -> None:
            nonlocal last_result
            last_result = result or last_result
            stage(name, result)

        log = runs_push.push(
            services_,
            integration,
            entity_type,
            sync_type=SyncType.MANUAL,
            run_id=run_id,
            records=record,
            stage=keep_result,
        )
        seconds = (log.duration or 0) / 1000
        line = f"{entity_type.table} {log.status}: {last_result}, {log.api_requests} API requests, {seconds:.1f} s"
        left = _blocked_lines(services_.database, integration, entity_type, record)
        return outcome_of(log)._replace(line="\n".join([line, *left]))

    run_streams(services_.database, organization, entity_types(entity), run, context.obj or as_json)


def _blocked_lines(
    database_: Database, integration: Integration, entity_type: EntityType, records: list[UUID] | None
) -> list[str]:
    """Return a line for each record that could not be sent, and one that counts the records in review."""
    stream = integration.stream(entity_type)
    with database_.connect() as connection:
        in_review = conflicts.records_in_review(connection, stream)
        found, total = push_attempts.list_blocked(connection, stream, records, MAX_SHOWN)
    lines = [f"  {_blocked_line(each)}" for each in found if each.roi_entity_id not in in_review]
    if total > len(found):
        lines.append(f"  … and {total - len(found)} more")
    if waiting := len(in_review if records is None else in_review & set(records)):
        lines.append(
            f"  {waiting} wait for a decision, because both sides changed them: see `python -m softpro conflicts list`"
        )
    return lines


def _blocked_line(push: Push) -> str:
    """Describe a record that could not be sent."""
    if push.next_attempt_at is None:
        return f"{push.roi_entity_id} failed, and is sent once it is edited again: {push.error}"
    return f"{push.roi_entity_id} waits until {format_milliseconds(push.next_attempt_at)}: {push.error}"


def _dry_run(
    database_: Database, organization: str, wanted: list[EntityType] | None, records: list[UUID] | None, as_json: bool
) -> None:
    """Print what a push would send, record by record, the earliest edit first."""
    from softpro.writeback.dry_run import PushState, dry_run
    from softpro.writeback.field_values import encode

    (reconcile,) = load(ReconcileSettings)
    with database_.connect() as connection:
        integration = integrations.find(connection, organization)
        for entity_type in organization_streams(integration, wanted):
            states: Counter[PushState] = Counter()
            for offset in count(0, DRY_RUN_PAGE):
                page, _ = dry_run(
                    connection,
                    integration,
                    [entity_type],
                    delete_limit=reconcile.delete_limit,
                    records=records,
                    limit=DRY_RUN_PAGE,
                    offset=offset,
                )
                for outgoing in page:
                    states[outgoing.state] += 1
                    print(encode(outgoing.as_json()) if as_json else "\n".join(_outgoing_lines(outgoing)))
                if len(page) < DRY_RUN_PAGE:
                    break
            say(f"{entity_type.table}: {states.total()} changed, {states[PushState.SEND]} would be sent")


def _outgoing_lines(outgoing: Outgoing) -> Iterator[str]:
    """Yield the lines of one record: the fields to send, the reason if it is not sent, and the author of each edit."""
    content = outgoing.as_json()
    name = "not at SoftPro yet" if content["entityId"] is None else content["entityId"]
    yield printable(f"{content['roiEntityId']} ({name})  {content['operation']}  {content['state']}")
    if outgoing.why is not None:
        again = f", retried at {content['nextAttemptAt']}" if content["nextAttemptAt"] else ""
        yield printable(f"  {outgoing.why}{again}")
    rows = [[field["softproField"], value(field["from"]), f"=> {value(field['to'])}"] for field in content["fields"]]
    yield from map(printable, table(rows) if rows else ())
    for edit in content["edits"]:
        what = edit["field"] or {"CREATE": "created", "DELETE": "deleted"}[edit["operation"]]
        yield printable(f"  {what} by {edit['changedBy']} at {edit['changedAt']}")
