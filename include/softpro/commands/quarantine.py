"""`python -m softpro quarantine …`: the records that were not loaded, and what people do about them."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from softpro.commands.common import Json, Organization, database, entity_types, operator, printable, say
from softpro.commands.runner import RunOutcome, outcome_of, run_streams
from softpro.db import integrations
from softpro.db.database import Database
from softpro.entities import EntityType, SyncType
from softpro.errors import UsageError
from softpro.quality import quarantine_cases
from softpro.quality.quarantine_cases import Case, CaseFilter, Payloads, Resolution
from softpro.runs import sync
from softpro.sync import replay as replaying
from softpro.sync.corrections import correct as correct

if TYPE_CHECKING:
    from softpro.db.integrations import Integration
    from softpro.runs.pipeline import Stage
    from softpro.sync.extract import Progress

LARGEST_PAGE = 200

app = typer.Typer(
    help="The records that were not loaded: list, show, edit, replay, discard.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

CaseId = Annotated[UUID, typer.Argument(metavar="CASE", help="The case's id, as `quarantine list` prints it.")]


@app.command("list")
def list_(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    column: Annotated[str | None, typer.Option(help="Those with a reason about this column.")] = None,
    rule: Annotated[str | None, typer.Option(help="Those with a reason by this rule.")] = None,
    resolution: Annotated[str, typer.Option(help="open, loaded, edited, discarded or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=LARGEST_PAGE, help="How many.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="After so many.")] = 0,
    as_json: Json = False,
) -> None:
    """List an organization's cases, the one that failed last first."""
    if resolution.upper() not in list(Resolution):
        raise UsageError(f"--resolution is one of {', '.join(each.lower() for each in Resolution)}")
    one = entity_types(entity)
    wanted = CaseFilter(one[0] if one else None, column, rule, Resolution(resolution.upper()))
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        found, total = quarantine_cases.page(connection, integration.id, wanted, limit, offset)
    for case in found:
        print(json.dumps(case.as_json()) if context.obj or as_json else line(case))
    say(f"{len(found)} of {total}")


@app.command()
def show(context: typer.Context, case: CaseId, as_json: Json = False) -> None:
    """Show all of a case: reasons, what SoftPro sent, corrections, decisions."""
    with database().connect() as connection:
        found = quarantine_cases.get(connection, case)
        both = quarantine_cases.payloads(connection, found)
    shown = quarantine_cases.shown(found, both).decode()
    print(shown if context.obj or as_json else text(found, both))


@app.command()
def edit(
    context: typer.Context,
    case: CaseId,
    file: Annotated[
        str, typer.Option("--file", metavar="FILE", help="Holds the whole corrected record, as JSON; - is stdin.")
    ],
    as_json: Json = False,
) -> None:
    """Correct a case's record, and load it."""
    payload = sys.stdin.buffer.read() if file == "-" else contents(Path(file))
    database_ = database()
    with database_.connect() as connection:
        edited = correct(connection, case, payload, operator())
    say("The correction is stored, and loaded now; where another run works on the stream, by the next one")
    wanted = [EntityType(edited.entity_type)]
    run_replay(database_, edited.organization_id, wanted, [edited.id], context.obj or as_json)
    with database_.connect() as connection:
        replayed = quarantine_cases.get(connection, case)
    if replayed.resolution is None:
        for reason in replayed.reasons:
            say(f"The correction failed as well: {reason['message']}")


@app.command()
def replay(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    case: Annotated[
        list[UUID] | None, typer.Option("--case", metavar="CASE", help="One of some cases; else all that are open.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Map, check and load again what is in quarantine, as after a change of mappings or suites."""
    database_, wanted = database(), entity_types(entity)
    if case:
        with database_.connect() as connection:
            integration = integrations.find(connection, organization)
            chosen = [quarantine_cases.get(connection, each) for each in case]
            known = [each for each in EntityType if each in {each.entity_type for each in chosen}]
            for entity_type in known:
                ids = {each.id for each in chosen if each.entity_type == entity_type}
                quarantine_cases.require_open(connection, integration.id, entity_type, ids)
        wanted = [each for each in known if wanted is None or each in wanted]
    run_replay(database_, organization, wanted, case or None, context.obj or as_json)


@app.command()
def discard(
    context: typer.Context,
    case: CaseId,
    reason: Annotated[str, typer.Option(help="Why the record is not to be loaded.")],
    as_json: Json = False,
) -> None:
    """Close a case whose record is not to be loaded, until SoftPro sends another version of it."""
    with database().connect() as connection:
        discarded = quarantine_cases.discard(connection, case, reason, operator())
    print(json.dumps(discarded.as_json()) if context.obj or as_json else line(discarded))


def run_replay(
    database_: Database,
    organization: str,
    wanted: list[EntityType] | None,
    chosen: Collection[UUID] | None,
    as_json: bool,
) -> None:
    """Replays the organization's open cases, or those that are chosen, and prints what became of each stream's."""

    def run(
        integration: Integration, entity_type: EntityType, run_id: str, progress: Progress, stage: Stage
    ) -> RunOutcome:
        log = sync.replay(
            database_, integration, entity_type, cases=chosen, sync_type=SyncType.MANUAL, run_id=run_id, stage=stage
        )
        with database_.connect() as connection:
            left = replaying.count_unreplayable(connection, integration.stream(entity_type), chosen)
        came = outcome_of(log)
        more = f"; {left} could not land and need a correction" if left else ""
        return RunOutcome({**came.result, "left": left}, came.line + more, came.problems)

    run_streams(database_, organization, wanted, run, as_json)


def contents(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise UsageError(f"--file {path} can't be read") from None


def line(case: Case) -> str:
    """A case in one line."""
    reasons = "; ".join(": ".join(filter(None, (each["column"], each["message"]))) for each in case.reasons)
    named = case.entity_id or "without an id"
    return f"{case.id}  {case.entity_type.lower()} {named}  {case.resolution or 'OPEN'}  {reasons}"


def text(case: Case, both: Payloads) -> str:
    """All of a case in some lines."""
    told = case.as_json()
    lines = [
        line(case),
        f"failed at {told['updatedAt']}, first at {told['createdAt']}, in the run of log {case.log_id}",
    ]
    lines.append(
        "mapped by " + (f"version {case.mapping_version}" if case.mapping_version else "none: it did not land")
    )
    for each in case.decisions:
        lines.append(
            f"{each['at']}  {each['decision']} by {each['by']}" + (f": {each['reason']}" if each["reason"] else "")
        )
    lines += ["", "SoftPro sent:", printable(both.payload.decode(errors="backslashreplace"))]
    if both.edited_payload is not None:
        lines += [
            "",
            f"Corrected by {case.edited_by} at {told['editedAt']}:",
            printable(both.edited_payload.decode(errors="backslashreplace")),
        ]
    return "\n".join(lines)
