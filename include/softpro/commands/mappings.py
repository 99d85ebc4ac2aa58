"""Show, change, compare, roll back and preview mapping sets: `python -m softpro mappings …`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from collections.abc import Mapping as Dict
from typing import Annotated

import typer

from softpro import json_codec
from softpro.analysis import preview as previews
from softpro.commands import formatting
from softpro.commands.common import Json, Organization, database, entity_types, operator
from softpro.db import integrations
from softpro.db.database import Connection
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro.errors import NotFoundHere, UsageError
from softpro.mapping import document, repository
from softpro.mapping.diff import diff
from softpro.mapping.mapping import Mapping
from softpro.mapping.repository import Replaced, Version
from softpro.sync import remap

MAX_VERSION = 2**31 - 1

Entity = Annotated[str, typer.Option(help="transactions, contacts or all.")]
OneEntity = Annotated[str, typer.Option("--entity", help="transactions or contacts.")]
File = Annotated[
    typer.FileBinaryRead,
    typer.Option(help="The mappings, as `mappings show --json` prints them; - reads standard input."),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="The file holds the complete sets: remove the mappings that it lacks.")
]

app = typer.Typer(help="Manage mapping sets.", no_args_is_help=True)


@app.command()
def show(
    context: typer.Context,
    organization: Organization,
    entity: Entity = "all",
    version: Annotated[
        int | None, typer.Option(min=1, max=MAX_VERSION, help="An earlier version, of one entity type.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the sets in force.

    Or an earlier version. With --json, in the form that `mappings put` accepts.
    """
    types = _entity_types(entity) if version is None else [_single_entity_type(entity)]
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        found = {each: _version(connection, integration, each, version) for each in types}
    if context.obj or as_json:
        body = [document.as_json(mapping) for _, mappings in found.values() for mapping in mappings]
        print(json.dumps({"integrationId": str(integration.id), "mappings": body}))
        return
    for entity_type, (head, mappings) in found.items():
        print(f"{entity_type.table}: {', '.join(formatting.version(head))}")
        _print(formatting.table([formatting.mapping(mapping) for mapping in mappings]))


@app.command()
def put(
    context: typer.Context, organization: Organization, file: File, replace: Replace = False, as_json: Json = False
) -> None:
    """Update or add the mappings in a file, all or none.

    Mappings of the same targets are updated, and others stay. With --replace, the file holds the complete sets of its
    entity types.
    """
    wanted = document.read(file.read())
    change = repository.replace if replace or wanted.replace else repository.update
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        in_force = change(
            connection,
            integration.id,
            integration.organization_id,
            [entry.mapping() for entry in wanted.mappings],
            author=operator(),
            expected=wanted.expected_versions,
        )
        _print_update(connection, integration, in_force, context.obj or as_json)


@app.command()
def versions(
    context: typer.Context,
    organization: Organization,
    entity: Entity = "all",
    limit: Annotated[int, typer.Option(min=1, max=MAX_VERSION, help="Number of latest versions per entity type.")] = 20,
    as_json: Json = False,
) -> None:
    """List the current and earlier sets, latest first."""
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        for entity_type in _entity_types(entity):
            found, total = repository.versions(connection, integration.stream(entity_type), limit, 0)
            if context.obj or as_json:
                for each in found:
                    print(json.dumps(each.as_json(entity_type)))
            else:
                print(f"{entity_type.table}: {total} versions")
                _print(formatting.table([formatting.version(each) for each in found]))


@app.command("diff")
def compare(
    context: typer.Context,
    organization: Organization,
    entity: OneEntity,
    earlier: Annotated[int, typer.Option("--from", min=1, max=MAX_VERSION, help="The earlier version.")],
    later: Annotated[
        int | None,
        typer.Option("--to", min=1, max=MAX_VERSION, help="The later version. Default: the version in force."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the differences between two versions, by target."""
    entity_type = _single_entity_type(entity)
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        _, before = _version(connection, integration, entity_type, earlier)
        head, after = _version(connection, integration, entity_type, later)
    found = diff(before, after)
    if context.obj or as_json:
        print(json.dumps({"entityType": entity_type, "from": earlier, "to": head.version, **found.as_json()}))
        return
    print(f"{entity_type.table}: version {earlier} to {head.version}" + ("" if found else ", no difference"))
    _print(formatting.difference(found))


@app.command()
def rollback(
    context: typer.Context,
    organization: Organization,
    entity: OneEntity,
    version: Annotated[int, typer.Option(min=1, max=MAX_VERSION, help="The version to go back to.")],
    as_json: Json = False,
) -> None:
    """Go back to an earlier version.

    Makes a new version that copies it.
    """
    entity_type = _single_entity_type(entity)
    with database().connect() as connection:
        integration = integrations.find(connection, organization)
        in_force = repository.restore(connection, integration.stream(entity_type), version, author=operator())
        _print_update(connection, integration, {entity_type: in_force}, context.obj or as_json)


@app.command()
def preview(
    context: typer.Context,
    organization: Organization,
    file: File,
    replace: Replace = False,
    entity: Entity = "all",
    entity_id: Annotated[
        list[str] | None, typer.Option("--id", help="The SoftPro id of a fetched record. Repeatable.")
    ] = None,
    record: Annotated[
        typer.FileBinaryRead | None, typer.Option(help="A file with one record, as SoftPro sends it.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=previews.MAX_RECORDS, help="Number of latest fetched records to show.")
    ] = previews.DEFAULT_RECORDS,
    as_json: Json = False,
) -> None:
    """Show the effect of `put` with a file.

    Maps real records, without writing anything.
    """
    wanted = document.read(file.read())
    proposed, replace = [entry.mapping() for entry in wanted.mappings], replace or wanted.replace
    types = [each for each in _entity_types(entity) if any(mapping.entity_type is each for mapping in proposed)]
    if not types:
        raise UsageError(f"The file holds no mappings for --entity {entity}")
    chosen = previews.RecordSelection(entity_id or None, _read_record(record.read()) if record else None, limit)
    _require_one_selection(chosen, types)
    database_ = database()
    with database_.connect() as connection:
        integration = integrations.find(connection, organization)
        # All entity types together, so that problems have the numbers of the file.
        repository.proposal(connection, integration.id, integration.organization_id, proposed, replace=replace)
    for entity_type in types:
        of_type = [mapping for mapping in proposed if mapping.entity_type is entity_type]
        shown = previews.preview(database_, integration, entity_type, of_type, chosen, replace=replace)
        if context.obj or as_json:
            print(json_codec.encode({"entityType": entity_type.value, **shown.as_json()}).decode())
        else:
            _print(formatting.preview(entity_type, shown))


def _print(text: Iterable[str]) -> None:
    for line in text:
        print(line)


def _entity_types(entity: str) -> list[EntityType]:
    return entity_types(entity) or list(EntityType)


def _single_entity_type(entity: str) -> EntityType:
    """Return the one entity type that `--entity` names.

    Raises:
        UsageError: The option is missing or `all`.
    """
    found = entity_types(entity)
    if found is None:
        raise UsageError("A version belongs to one entity type: add --entity transactions or --entity contacts")
    return found[0]


def _version(
    connection: Connection, integration: Integration, entity_type: EntityType, number: int | None
) -> tuple[Version, list[Mapping]]:
    """Return the version with this number, or the version in force.

    Raises:
        NotFoundHere: The version does not exist.
    """
    number = number or repository.current(connection, integration.stream(entity_type)).version
    if number is None:
        raise NotFoundHere(f"{integration.organization_id} has no mappings for {entity_type.table} yet")
    return repository.version(connection, integration.stream(entity_type), number)


def _print_update(
    connection: Connection, integration: Integration, in_force: Dict[EntityType, Replaced], as_json: bool
) -> None:
    """Print the versions in force, and the command that applies them to records fetched before."""
    changed = [each for each in integration.entity_types() if each in in_force and in_force[each].changed]
    records = remap.count_records(connection, integration.id, changed) if changed else 0
    command = f"python -m softpro remap {shlex.quote(integration.organization_id)}"
    if len(changed) == 1:
        command += f" --entity {changed[0].table}"
    if as_json:
        versions = [
            {"entityType": entity_type, "version": each.version, "changed": each.changed}
            for entity_type, each in in_force.items()
        ]
        offer = {"command": command, "records": records} if records else None
        print(json.dumps({"versions": versions, **repository.difference(in_force).as_json(), "remap": offer}))
        return
    for entity_type, each in in_force.items():
        was = "" if each.changed else ", unchanged"
        print(f"{entity_type.table}: version {each.version}{was}")
        _print(formatting.difference(each.difference))
    if records:
        print(f"To apply it to the {records} records that were fetched before: {command}")


def _require_one_selection(chosen: previews.RecordSelection, types: list[EntityType]) -> None:
    """Raise UsageError for options that contradict each other or do not select an entity type."""
    if chosen.ids and chosen.pasted is not None:
        raise UsageError("Give --id or --record, not both")
    if len(chosen.ids or []) > previews.MAX_RECORDS:
        raise UsageError(f"--id can be repeated at most {previews.MAX_RECORDS} times")
    if (chosen.ids or chosen.pasted is not None) and len(types) > 1:
        raise UsageError(f"The file holds {' and '.join(each.table for each in types)}: choose one with --entity")


def _read_record(text: bytes) -> bytes:
    """Return the record in a file.

    Raises:
        UsageError: The file does not hold one JSON object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as broken:
        raise UsageError(f"The --record file must hold one record as JSON: {broken}") from None
    if not isinstance(found, dict):
        raise UsageError("The --record file must hold one record, which is a JSON object")
    return text
