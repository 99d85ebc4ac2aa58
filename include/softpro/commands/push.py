"""`python -m softpro push ORG`: sends to SoftPro what was changed here, or shows what it would send."""

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
from softpro.timestamps import format_milliseconds
from softpro.writeback import conflicts, push_attempts

if TYPE_CHECKING:
    from softpro.db.database import Database
    from softpro.db.integrations import Integration
    from softpro.runs.pipeline import Stage
    from softpro.sync.extract import Progress
    from softpro.writeback.dry_run import Outgoing
    from softpro.writeback.push_attempts import Push

SHOWN = 20
PAGE = 100
"""Records of a dry run that are planned together."""


def push(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    record: Annotated[
        list[UUID] | None,
        typer.Option(metavar="ROI_ID", help="The id of a roi row, of one --entity: it alone, due or not. Repeatable."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be sent of each record, and why or why not; send nothing."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Send to SoftPro what was changed in ROI Systems, and say what waits and why."""
    if record and entity == "all":
        raise UsageError("--record takes an --entity, transactions or contacts")
    if dry_run:
        _dry_run(database(), organization, entity_types(entity), record, context.obj or as_json)
        return
    services_ = services(database())

    def run(
        integration: Integration, entity_type: EntityType, run_id: str, progress: Progress, stage: Stage
    ) -> RunOutcome:
        told = ""

        def staged(name: str, came_to: str) -> None:
            nonlocal told
            told = came_to or told
            stage(name, came_to)

        log = runs_push.push(
            services_,
            integration,
            entity_type,
            sync_type=SyncType.MANUAL,
            run_id=run_id,
            records=record,
            stage=staged,
        )
        seconds = (log.duration or 0) / 1000
        line = f"{entity_type.table} {log.status}: {told}, {log.api_requests} API requests, {seconds:.1f} s"
        left = _left(services_.database, integration, entity_type, record)
        return outcome_of(log)._replace(line="\n".join([line, *left]))

    run_streams(services_.database, organization, entity_types(entity), run, context.obj or as_json)


def _left(
    database_: Database, integration: Integration, entity_type: EntityType, records: list[UUID] | None
) -> list[str]:
    """A line for each record that could not be sent, and one for those that a person is to decide about."""
    stream = integration.stream(entity_type)
    with database_.connect() as connection:
        in_review = conflicts.open_conflict(connection, stream)
        found, total = push_attempts.blocked(connection, stream, records, SHOWN)
    lines = [f"  {_why(each)}" for each in found if each.roi_entity_id not in in_review]
    if total > len(found):
        lines.append(f"  … and {total - len(found)} more")
    if waiting := len(in_review if records is None else in_review & set(records)):
        lines.append(f"  {waiting} wait for a person, as both sides changed them: see `conflicts list`")
    return lines


def _why(push: Push) -> str:
    if push.next_attempt_at is None:
        return f"{push.roi_entity_id} failed, and is sent once it is edited again: {push.error}"
    return f"{push.roi_entity_id} waits until {format_milliseconds(push.next_attempt_at)}: {push.error}"


def _dry_run(
    database_: Database, organization: str, wanted: list[EntityType] | None, records: list[UUID] | None, as_json: bool
) -> None:
    """Prints what a push would send, a record after the other, who was changed first, first."""
    from softpro.writeback.dry_run import State, dry_run
    from softpro.writeback.field_values import encode

    with database_.connect() as connection:
        integration = integrations.find(connection, organization)
        for entity_type in organization_streams(integration, wanted):
            states: Counter[State] = Counter()
            for offset in count(0, PAGE):
                page, _ = dry_run(
                    connection,
                    integration,
                    [entity_type],
                    records=records,
                    limit=PAGE,
                    offset=offset,
                )
                for outgoing in page:
                    states[outgoing.state] += 1
                    print(encode(outgoing.as_json()) if as_json else "\n".join(_shown(outgoing)))
                if len(page) < PAGE:
                    break
            say(f"{entity_type.table}: {states.total()} were changed, {states[State.SEND]} would be sent")


def _shown(outgoing: Outgoing) -> Iterator[str]:
    """What would be sent of a record, why or why not, and who changed it when."""
    told = outgoing.as_json()
    named = "unknown at SoftPro" if told["entityId"] is None else told["entityId"]
    yield printable(f"{told['roiEntityId']} ({named})  {told['operation']}  {told['state']}")
    if outgoing.why is not None:
        again = f", tried again at {told['nextAttemptAt']}" if told["nextAttemptAt"] else ""
        yield printable(f"  {outgoing.why}{again}")
    rows = [[field["softproField"], value(field["from"]), f"=> {value(field['to'])}"] for field in told["fields"]]
    yield from map(printable, table(rows) if rows else ())
    for edit in told["edits"]:
        what = edit["field"] or {"CREATE": "made", "DELETE": "deleted"}[edit["operation"]]
        yield printable(f"  {what} by {edit['changedBy']} at {edit['changedAt']}")
