"""Show who changed what: `python -m softpro audit`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from softpro.commands.common import Json, database, printable, say
from softpro.db import audit_log
from softpro.db.audit_log import Entry
from softpro.db.integrations import validate_organization
from softpro.timestamps import format_milliseconds


def audit(
    context: typer.Context,
    organization: Annotated[
        str | None, typer.Argument(metavar="[ORG]", help="Only changes of this organization. Default: all changes.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only changes of this user.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, such as settings.update.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The number of entries to show.")] = 50,
    as_json: Json = False,
) -> None:
    """Show who changed what, newest first.

    Prints the time, the user, where the user acted, the action, and the values before and after.
    """
    if organization is not None:
        validate_organization(organization)
    with database().connect() as connection:
        found, total = audit_log.page(
            connection, None, organization=organization, user=user, action=action, limit=limit, offset=0
        )
    for entry in found:
        print(json.dumps(entry.as_json()) if context.obj or as_json else printable(line(entry)))
    if not found:
        say("No change is recorded")
    if total > len(found):
        say(f"{total - len(found)} earlier entries are not shown (--limit)")


def line(entry: Entry) -> str:
    """Return the entry as a line."""
    place = entry.source if entry.address is None else f"{entry.source} {entry.address}"
    values = [f"{name} {json.dumps(value)}" for name, value in (("from", entry.before), ("to", entry.after)) if value]
    parts = [entry.organization_id, entry.subject, *values]
    return "  ".join(
        [format_milliseconds(entry.at), entry.user_name, place, entry.action, *(part for part in parts if part)]
    )
