"""Define the arguments, the database and the output helpers that all commands share."""

from __future__ import annotations

import re
from getpass import getuser
from socket import gethostname
from typing import Annotated

import typer

from softpro import settings
from softpro.db.audit_log import Actor, Source
from softpro.db.database import Database, open_database
from softpro.entities import EntityType
from softpro.errors import UsageError

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line and entity instead of text.")]
Organization = Annotated[str, typer.Argument(metavar="ORG", help="The organization's id in ROI Systems.")]


def database() -> Database:
    """Open the database that the environment names."""
    (wanted,) = settings.load(settings.DatabaseSettings)
    return open_database(wanted)


def operator() -> str:
    """Return the name of the user at the command line, for audit columns."""
    try:
        return f"{getuser()} (command line)"
    except (KeyError, OSError):  # the user of a container may have no name
        return "command line"


def actor() -> Actor:
    """Return the user at the command line, for the audit log."""
    return Actor(operator(), Source.COMMAND_LINE, gethostname())


def entity_types(name: str) -> list[EntityType] | None:
    """Return the entity types that `--entity` names, or None for `all`.

    Raises:
        UsageError: The name is unknown.
    """
    known = {entity_type.table: entity_type for entity_type in EntityType}
    if name == "all":
        return None
    if name not in known:
        raise UsageError(f"--entity must be one of {', '.join(known)}, or all")
    return [known[name]]


def printable(text: str) -> str:
    r"""Replace control characters, which a terminal would interpret, by `\xNN`."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def say(text: str) -> None:
    """Print a line to standard error."""
    typer.echo(text, err=True)
