"""List, correct, replay and discard quarantine cases: `python -m softpro quarantine …`."""

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
from softpro.settings import QualitySettings, load
from softpro.sync import replay as replaying
from softpro.sync.corrections import correct as correct

if TYPE_CHECKING:
    from softpro.db.integrations import Integration
    from softpro.runs.pipeline import Stage
    from softpro.sync.extract import Progress

MAX_PAGE_SIZE = 200

app = typer.Typer(
    help="Manage records that were not loaded.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

CaseId = Annotated[UUID, typer.Argument(metavar="CASE", help="The case's id, as `quarantine list` prints it.")]


@app.command("list")
def list_(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    column: Annotated[str | None, typer.Option(help="Only cases with a reason about this column.")] = None,
    rule: Annotated[str | None, typer.Option(help="Only cases with a reason by this rule.")] = None,
    resolution: Annotated[str, typer.Option(help="open, loaded, edited, discarded or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE_SIZE, help="Number of entries to print.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Number of entries to skip.")] = 0,
    as_json: Json = False,
) -> None:
    """List an organization's cases, latest failure first."""
    if resolution.upper() not in list(Resolution):
        raise UsageError(f"--resolution must be one of {', '.join(each.lower() for each in Resolution)}")
    one = entity_types(entity)
    wanted = CaseFilter(one[0] if one else None, column, rule, Resolution(resolution.upper()))
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        found, total = quarantine_cases.page(connection, integration.id, wanted, limit, offset)
    for case in found:
        print(json.dumps(case.as_json()) if context.obj or as_json else case_line(case))
    say(f"{len(found)} of {total}")


@app.command()
def show(context: typer.Context, case: CaseId, as_json: Json = False) -> None:
    """Show a case with all details.

    Prints the reasons, the decisions, SoftPro's payload, and the correction.
    """
    with database().connect() as connection:
        found = quarantine_cases.get(connection, case)
        both = quarantine_cases.payloads(connection, found)
    shown = quarantine_cases.as_json_bytes(found, both).decode()
    print(shown if context.obj or as_json else case_text(found, both))


@app.command()
def edit(
    context: typer.Context,
    case: CaseId,
    file: Annotated[
        str,
        typer.Option(
            "--file", metavar="FILE", help="A file with the complete corrected record, as JSON; - reads standard input."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Correct the record of a case, and load it."""
    payload = sys.stdin.buffer.read() if file == "-" else read_file(Path(file))
    database_ = database()
    with database_.connect() as connection:
        edited = correct(connection, case, payload, operator())
    say(
        "The correction is stored. This run loads it; if another run works on the stream, that run or the next one does"
    )
    wanted = [EntityType(edited.entity_type)]
    run_replay(database_, edited.organization_id, wanted, [edited.id], context.obj or as_json)
    with database_.connect() as connection:
        replayed = quarantine_cases.get(connection, case)
    if replayed.resolution is None:
        for reason in replayed.reasons:
            say(f"The corrected record failed, too: {reason['message']}")


@app.command()
def replay(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    case: Annotated[
        list[UUID] | None,
        typer.Option("--case", metavar="CASE", help="A case to replay. Repeatable. Default: all open cases."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Load quarantined records again.

    Maps and checks them first. Use it after mappings or suites changed.
    """
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
    reason: Annotated[str, typer.Option(help="The reason why the record is not to be loaded.")],
    as_json: Json = False,
) -> None:
    """Close a case without loading its record.

    It stays closed until SoftPro sends another version of the record.
    """
    with database().connect() as connection:
        discarded = quarantine_cases.discard(connection, case, reason, operator())
    print(json.dumps(discarded.as_json()) if context.obj or as_json else case_line(discarded))


def run_replay(
    database_: Database,
    organization: str,
    wanted: list[EntityType] | None,
    chosen: Collection[UUID] | None,
    as_json: bool,
) -> None:
    """Replay the chosen cases, or all open cases of the organization, and print the result of each stream."""
    (quality,) = load(QualitySettings)

    def run(
        integration: Integration, entity_type: EntityType, run_id: str, progress: Progress, stage: Stage
    ) -> RunOutcome:
        log = sync.replay(
            database_,
            integration,
            entity_type,
            cases=chosen,
            sync_type=SyncType.MANUAL,
            run_id=run_id,
            quality=quality,
            stage=stage,
        )
        with database_.connect() as connection:
            left = replaying.count_unreplayable(connection, integration.stream(entity_type), chosen)
        outcome = outcome_of(log)
        more = f"; {left} could not land and need a correction" if left else ""
        return RunOutcome({**outcome.result, "left": left}, outcome.line + more, outcome.problems)

    run_streams(database_, organization, wanted, run, as_json)


def read_file(path: Path) -> bytes:
    """Return the content of a file. Raises UsageError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        raise UsageError(f"--file {path} cannot be read") from None


def case_line(case: Case) -> str:
    """Return a case as one line."""
    reasons = "; ".join(": ".join(filter(None, (each["column"], each["message"]))) for each in case.reasons)
    name = case.entity_id or "without an id"
    return f"{case.id}  {case.entity_type.lower()} {name}  {case.resolution or 'OPEN'}  {reasons}"


def case_text(case: Case, both: Payloads) -> str:
    """Return a case with all details as text."""
    content = case.as_json()
    lines = [
        case_line(case),
        f"failed at {content['updatedAt']}, first at {content['createdAt']}, log of the run {case.log_id}",
    ]
    lines.append(
        "mapped by "
        + (f"version {case.mapping_version}" if case.mapping_version else "no version: the record did not land")
    )
    for each in case.decisions:
        lines.append(
            f"{each['at']}  {each['decision']} by {each['by']}" + (f": {each['reason']}" if each["reason"] else "")
        )
    lines += ["", "SoftPro sent:", printable(both.payload.decode(errors="backslashreplace"))]
    if both.edited_payload is not None:
        lines += [
            "",
            f"Corrected by {case.edited_by} at {content['editedAt']}:",
            printable(both.edited_payload.decode(errors="backslashreplace")),
        ]
    return "\n".join(lines)
