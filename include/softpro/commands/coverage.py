"""`python -m softpro coverage`: what SoftPro's records hold that no mapping reads, and what is new in them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from softpro.analysis.coverage import Coverage
from softpro.analysis.coverage import coverage as read
from softpro.analysis.field_profile import refresh as look
from softpro.commands.common import Json, Organization, database, entity_types
from softpro.db import integrations
from softpro.entities import EntityType


def coverage(
    context: typer.Context,
    organization: Organization,
    entity: Annotated[str, typer.Option(help="transactions, contacts or all.")] = "all",
    refresh: Annotated[bool, typer.Option("--refresh", help="Look at what landed just now, too.")] = False,
    as_json: Json = False,
) -> None:
    """Show fields that no mapping reads, fields that are read and not there, and what is new."""
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        for entity_type in entity_types(entity) or list(EntityType):
            look(connection, integration, entity_type, only_if_old=not refresh)
            found = read(connection, integration, entity_type)
            print(json.dumps(found.as_json()) if context.obj or as_json else text(found), flush=True)


def text(found: Coverage) -> str:
    """A stream's coverage, a field a line."""
    told = found.as_json()
    lines = [f"{found.entity_type.table}: {found.records} records looked at until {told['refreshedAt']}"]
    for heading, fields in (("no mapping reads", told["unread"]), ("new fields", told["newFields"])):
        lines += [f"  {heading}:"] if fields else []
        for field in fields:
            doubt = ", may be read by a rule" if field["read"] == "MAYBE" else ""
            lines.append(
                f"    {field['path']}  {'/'.join(field['kinds'])}  in {field['records']}, "
                f"since {field['firstSeenAt']}{doubt}"
            )
    lines += ["  mapped, and not there:"] if found.missing else []
    lines += [f"    {each['path']}  last seen {each['lastSeenAt'] or 'never'}" for each in told["missing"]]
    lines += ["  new codes:"] if found.new_values else []
    lines += [
        f"    {each['path']}  {each['value']}  in {each['records']}, since {each['firstSeenAt']}"
        for each in told["newValues"]
    ]
    return "\n".join(lines)
