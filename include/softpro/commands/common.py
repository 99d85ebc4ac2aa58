"""What the commands share."""

from __future__ import annotations

from getpass import getuser
from typing import Annotated

import typer

from softpro import settings
from softpro.store.database import Database, open_database

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


def say(text: str) -> None:
    typer.echo(text, err=True)
