"""List and decide held batches: `python -m softpro holds …`."""

from __future__ import annotations

import json
from typing import Annotated, Any
from uuid import UUID

import typer

from softpro.commands.common import Json, Organization, database, operator, say
from softpro.db import integrations
from softpro.errors import UsageError
from softpro.quality import holds

MAX_LISTED = 100

app = typer.Typer(
    help="Manage batches that were held back.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

HoldId = Annotated[str, typer.Argument(metavar="HOLD", help="The hold's id, as `holds list` prints it.")]
Reason = Annotated[str | None, typer.Option(help="The reason, which is stored with the hold.")]


@app.command("list")
def show(
    context: typer.Context,
    organization: Organization,
    status: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(holds.HoldStatus)}. Default: the open holds.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List an organization's held batches, newest first."""
    if status is not None and status not in set(holds.HoldStatus):
        raise UsageError(f"--status must be one of {', '.join(holds.HoldStatus)}")
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        found, total = holds.page(connection, integration.id, [status] if status else holds.OPEN, MAX_LISTED, 0)
    for hold in found:
        _print(context, hold, as_json)
    if not found:
        say("No batch is held")
    if total > len(found):
        say(f"{total - len(found)} older holds are not shown")


@app.command()
def approve(
    context: typer.Context, organization: Organization, hold: HoldId, reason: Reason = None, as_json: Json = False
) -> None:
    """Approve a held batch; the next run loads it."""
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        decided = holds.approve(connection, integration.id, _parse_id(hold), operator(), reason)
    _print(context, decided, as_json)
    say("The next run loads the batch")


@app.command()
def reject(
    context: typer.Context,
    organization: Organization,
    hold: HoldId,
    reason: Annotated[str, typer.Option(help="The reason, which is stored with the hold.")],
    as_json: Json = False,
) -> None:
    """Reject a held batch; its records go to quarantine."""
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        decided = holds.reject(connection, integration.id, _parse_id(hold), operator(), reason)
    _print(context, decided, as_json)


def _parse_id(given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError:
        raise UsageError("HOLD must be an id that `holds list` prints") from None


def _print(context: typer.Context, hold: holds.Hold, as_json: bool) -> None:
    shown: dict[str, Any] = hold.as_json()
    print(json.dumps(shown) if context.obj or as_json else hold.line())
