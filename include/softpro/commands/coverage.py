"""Show unmapped, missing and new fields of SoftPro's records: `python -m softpro coverage`."""

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
    refresh: Annotated[bool, typer.Option("--refresh", help="Include the records that have just landed.")] = False,
    as_json: Json = False,
) -> None:
    """Show unmapped, missing and new fields.

    Unmapped fields are in records, but no mapping reads them. Missing fields are mapped, but not in records.
    """
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        for entity_type in entity_types(entity) or list(EntityType):
            look(connection, integration, entity_type, only_if_old=not refresh)
            found = read(connection, integration, entity_type)
            print(json.dumps(found.as_json()) if context.obj or as_json else coverage_text(found), flush=True)


def coverage_text(found: Coverage) -> str:
    """Return the coverage of a stream as text, one line per field."""
    content = found.as_json()
    lines = [f"{found.entity_type.table}: {found.records} records examined until {content['refreshedAt']}"]
    for heading, fields in (("no mapping reads", content["unread"]), ("new fields", content["newFields"])):
        lines += [f"  {heading}:"] if fields else []
        for field in fields:
            doubt = ", may be read by a rule" if field["read"] == "MAYBE" else ""
            lines.append(
                f"    {field['path']}  {'/'.join(field['kinds'])}  in {field['records']}, "
                f"since {field['firstSeenAt']}{doubt}"
            )
    lines += ["  mapped, but missing in records:"] if found.missing else []
    lines += [f"    {each['path']}  last seen {each['lastSeenAt'] or 'never'}" for each in content["missing"]]
    lines += ["  new codes:"] if found.new_values else []
    lines += [
        f"    {each['path']}  {each['value']}  in {each['records']}, since {each['firstSeenAt']}"
        for each in content["newValues"]
    ]
    return "\n".join(lines)
