"""List, resolve and reverse conflicts: `python -m softpro conflicts …`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, cast
from uuid import UUID

import msgspec
import typer

from softpro.commands.common import Json, Organization, database, entity_types, operator, printable, say
from softpro.commands.formatting import table, value
from softpro.commands.runner import EXIT_FAILED
from softpro.db import integrations
from softpro.errors import UsageError
from softpro.writeback import conflicts
from softpro.writeback.conflict_lock import Side, Value
from softpro.writeback.conflicts import Conflict, ConflictStatus
from softpro.writeback.field_values import decode
from softpro.writeback.resolve import resolve as decide
from softpro.writeback.resolve import resolve_some
from softpro.writeback.reverse import reverse as take_back

MAX_PAGE_SIZE = 200
SIDES = ("SOFTPRO", "ROI")

app = typer.Typer(
    help="Manage fields that both sides changed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ConflictId = Annotated[
    UUID, typer.Argument(metavar="CONFLICT", help="The conflict's id, as `conflicts list` prints it.")
]


@app.command("list")
def list_(
    context: typer.Context,
    organization: Organization,
    status: Annotated[str, typer.Option(help="open, resolved or all.")] = "open",
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE_SIZE, help="Number of entries to print.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Number of entries to skip.")] = 0,
    as_json: Json = False,
) -> None:
    """List an organization's conflicts, newest first."""
    if status != "all" and status.upper() not in set(ConflictStatus):
        raise UsageError("--status must be one of open, resolved, all")
    wanted = entity_types(entity)
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        found, total = conflicts.page(
            connection,
            integration.id,
            status=None if status == "all" else ConflictStatus(status.upper()),
            entity_type=wanted[0] if wanted else None,
            limit=limit,
            offset=offset,
        )
    for conflict in found:
        print(_json(conflict) if context.obj or as_json else _line(conflict))
    say(f"{len(found)} of {total}")


@app.command()
def show(context: typer.Context, organization: Organization, conflict: ConflictId, as_json: Json = False) -> None:
    """Show a conflict with all details.

    Prints for each field the last agreed value, the value on each side, the result and the reason.
    """
    with database().connect() as connection:
        found = conflicts.get(connection, integrations.find(connection, organization).id, conflict)
    print(_json(found) if context.obj or as_json else "\n".join(_detail_lines(found)))


@app.command()
def resolve(
    context: typer.Context,
    organization: Organization,
    conflict: Annotated[
        list[UUID], typer.Argument(metavar="CONFLICT...", help="Ids, as `conflicts list` prints them.")
    ],
    winner: Annotated[str | None, typer.Option(help="The side that wins all fields: softpro or roi.")] = None,
    field: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=SIDE", help="The side that wins one field. Repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=JSON", help="Another value for one field, as JSON. Repeatable."),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="The reason, which is stored with the conflict.")] = None,
    as_json: Json = False,
) -> None:
    """Resolve open conflicts.

    Several are resolved for one side; one conflict also field by field.
    """
    fields = _parse_choices(field or [], set_ or [])
    if (winner is None) == (not fields):
        raise UsageError("Give --winner softpro or --winner roi, or --field or --set for each field")
    if fields and len(conflict) > 1:
        raise UsageError("--field and --set take one conflict: resolve several with --winner")
    with database().connect() as connection:
        integration_id = integrations.find(connection, organization).id
        refused = []
        if fields:
            decide(connection, integration_id, conflict[0], fields, by=operator(), reason=reason)
        else:
            resolutions = resolve_some(
                connection, integration_id, conflict, _parse_side(winner or ""), by=operator(), reason=reason
            )
            refused = [each for each in resolutions if each.error is not None]
        failed = {each.conflict_id for each in refused}
        for decided in [conflicts.get(connection, integration_id, each) for each in conflict if each not in failed]:
            print(_json(decided) if context.obj or as_json else _line(decided))
    for each in refused:
        say(f"{each.conflict_id}: {each.error}")
    if refused:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def reverse(context: typer.Context, organization: Organization, conflict: ConflictId, as_json: Json = False) -> None:
    """Reverse a decision about fields.

    Makes a new edit, which is sent like any other.
    """
    with database().connect() as connection:
        integration_id = integrations.find(connection, organization).id
        reversed_ = take_back(connection, integration_id, conflict, by=operator())
    print(_json(reversed_) if context.obj or as_json else _line(reversed_))


def _parse_choices(sides: list[str], values: list[str]) -> dict[str, Side | Value]:
    found: dict[str, Side | Value] = {}
    for option, expected, texts in (("--field", "SIDE", sides), ("--set", "JSON", values)):
        for text in texts:
            name, equals, chosen = text.partition("=")
            if not equals or name in found:
                raise UsageError(f"{option} {text}: give FIELD={expected}, and each field only once")
            found[name] = _parse_side(chosen) if option == "--field" else Value(_parse_value(text, chosen))
    return found


def _parse_side(name: str) -> Side:
    if name.upper() not in SIDES:
        raise UsageError(f"{name!r} is not a side: give softpro or roi")
    return cast("Side", name.upper())


def _parse_value(whole: str, text: str) -> object:
    try:
        return decode(text)
    except msgspec.DecodeError:
        raise UsageError(
            f"--set {whole}: the value after the equals sign must be JSON, so put text in double quotes"
        ) from None


def _json(conflict: Conflict) -> str:
    return msgspec.json.encode(conflict.as_json()).decode()


def _line(conflict: Conflict) -> str:
    how = conflict.status
    if conflict.status == ConflictStatus.RESOLVED:
        how += f" by {conflict.resolved_by or 'the strategy'}"
    if conflict.reversed_by is not None:
        how += f", reversed by {conflict.reversed_by}"
    fields = ", ".join(conflict.decisions)
    return printable(
        f"{conflict.id}  {conflict.entity_type.lower()} {conflict.entity_id}  {conflict.kind}  {how}  {fields}"
    )


def _detail_lines(conflict: Conflict) -> Iterator[str]:
    content = conflict.as_json()
    yield _line(conflict)
    yield printable(f"row {conflict.roi_entity_id}, changed by {conflict.roi_changed_by} at {content['roiChangedAt']}")
    yield f"SoftPro changed at {content['softproUpdatedAt']}, conflict found at {content['createdAt']}"
    if conflict.reason:
        yield printable(conflict.reason)
    sides = [decode(text) for text in (conflict.base, conflict.softpro, conflict.roi, conflict.result or "{}")]
    rows = [["field", "agreed on", "SoftPro", "ROI", "result", "why"]]
    for name, decision in conflict.decisions.items():
        shown = [value(side[name]) if name in side else "-" for side in sides]
        rows.append([name, *shown, f"{decision['winner'] or 'undecided'}: {decision['why']}"])
    yield from map(printable, table(rows))
