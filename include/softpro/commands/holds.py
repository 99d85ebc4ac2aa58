"""`python -m softpro holds …`: batches that were not loaded, and what a person decides about them."""

from __future__ import annotations

import json
from typing import Annotated, Any
from uuid import UUID

import typer

from softpro.commands.common import Json, Organization, database, operator, say
from softpro.db import integrations
from softpro.errors import UsageError
from softpro.quality import holds

LISTED = 100

app = typer.Typer(
    help="See batches that wait for a person, and decide about them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

HoldId = Annotated[str, typer.Argument(metavar="HOLD", help="The hold's id, as `holds list` shows it.")]
Reason = Annotated[str | None, typer.Option(help="Why; it is kept with the hold.")]


@app.command("list")
def show(
    context: typer.Context,
    organization: Organization,
    status: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(holds.Status)}; left out: those that are open.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List an organization's batches that are held, newest first."""
    if status is not None and status not in set(holds.Status):
        raise UsageError(f"--status is one of {', '.join(holds.Status)}")
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        found, total = holds.page(connection, integration.id, [status] if status else holds.OPEN, LISTED, 0)
    for hold in found:
        _print(context, hold, as_json)
    if not found:
        say("Nothing is held")
    if total > len(found):
        say(f"{total - len(found)} older ones are not shown")


@app.command()
def approve(
    context: typer.Context, organization: Organization, hold: HoldId, reason: Reason = None, as_json: Json = False
) -> None:
    """Let the next run load a batch that is held."""
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        decided = holds.approve(connection, integration.id, _id(hold), operator(), reason)
    _print(context, decided, as_json)
    say("The next run loads it")


@app.command()
def reject(
    context: typer.Context,
    organization: Organization,
    hold: HoldId,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the hold.")],
    as_json: Json = False,
) -> None:
    """Do not load a batch that is held: its records go to quarantine."""
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        decided = holds.reject(connection, integration.id, _id(hold), operator(), reason)
    _print(context, decided, as_json)


def _id(given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError:
        raise UsageError("HOLD is the id that `holds list` shows") from None


def _print(context: typer.Context, hold: holds.Hold, as_json: bool) -> None:
    shown: dict[str, Any] = hold.as_json()
    print(json.dumps(shown) if context.obj or as_json else hold.line())
