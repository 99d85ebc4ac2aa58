"""What commands share: their usual arguments, the database, and where things are said."""

from __future__ import annotations

import re
from getpass import getuser
from typing import Annotated

import typer

from softpro import settings
from softpro.db.database import Database, open_database
from softpro.entities import EntityType
from softpro.errors import UsageError

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line and entity, instead of text.")]
Organization = Annotated[str, typer.Argument(metavar="ORG", help="The organization's id in ROI Systems.")]


def database() -> Database:
    """The database the environment names."""
    (wanted,) = settings.load(settings.DatabaseSettings)
    return open_database(wanted)


def operator() -> str:
    """Who is at the command line, for the records."""
    try:
        return f"{getuser()} (command line)"
    except (KeyError, OSError):  # a container's user may have no name
        return "command line"


def entity_types(name: str) -> list[EntityType] | None:
    """What `--entity` names; None for all that is switched on. Raises UsageError."""
    known = {entity_type.table: entity_type for entity_type in EntityType}
    if name == "all":
        return None
    if name not in known:
        raise UsageError(f"--entity is one of {', '.join(known)}, or all")
    return [known[name]]


def printable(text: str) -> str:
    """The text without what a terminal would obey."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def say(text: str) -> None:
    typer.echo(text, err=True)
