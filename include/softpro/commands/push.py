"""`python -m softpro push ORG`: sends to SoftPro what was changed here, or shows what it would send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from softpro import pushing
from softpro.commands.common import Json, Organization, database, entity_types
from softpro.commands.streams import Came, of_log, run_streams
from softpro.entities import EntityType, SyncType
from softpro.errors import UsageError
from softpro.services import services
from softpro.store import conflicts, pushes
from softpro.timestamps import format_milliseconds

if TYPE_CHECKING:
    from softpro.pipeline import Stage
    from softpro.store.database import Database
    from softpro.store.integrations import Integration
    from softpro.store.pushes import Push
    from softpro.sync.extract import Progress

SHOWN = 20


def push(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    record: Annotated[
        list[UUID] | None,
        typer.Option(metavar="ROI_ID", help="The id of a roi row, of one --entity: it alone, due or not. Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send to SoftPro what was changed in ROI Systems, and say what waits and why."""
    if record and entity == "all":
        raise UsageError("--record takes an --entity, transactions or contacts")
    services_ = services(database())

    def run(integration: Integration, entity_type: EntityType, run_id: str, progress: Progress, stage: Stage) -> Came:
        told = ""

        def staged(name: str, came_to: str) -> None:
            nonlocal told
            told = came_to or told
            stage(name, came_to)

        log = pushing.push(
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
        return of_log(log)._replace(line="\n".join([line, *left]))

    run_streams(services_.database, organization, entity_types(entity), run, context.obj or as_json)


def _left(
    database_: Database, integration: Integration, entity_type: EntityType, records: list[UUID] | None
) -> list[str]:
    """A line for each record that could not be sent, and one for those that a person is to decide about."""
    stream = {"integration_id": integration.id, "entity_type": entity_type.value}
    with database_.connect() as connection:
        in_review = conflicts.open_of(connection, stream)
        found, total = pushes.stuck(connection, stream, records, SHOWN)
    lines = [f"  {_why(each)}" for each in found if each.roi_entity_id not in in_review]
    if total > len(found):
        lines.append(f"  … and {total - len(found)} more")
    if waiting := len(in_review if records is None else in_review & set(records)):
        lines.append(f"  {waiting} wait for a person, as both sides changed them")
    return lines


def _why(push: Push) -> str:
    if push.next_attempt_at is None:
        return f"{push.roi_entity_id} failed, and is sent once it is edited again: {push.error}"
    return f"{push.roi_entity_id} waits until {format_milliseconds(push.next_attempt_at)}: {push.error}"
