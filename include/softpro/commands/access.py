"""Confine users and teams to organizations: `python -m softpro access …`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from softpro.commands.common import Json, database, operator, say
from softpro.db import access_scopes
from softpro.db.access_scopes import Confinement, SubjectKind
from softpro.errors import NotFoundHere

MAX_LISTED = 1_000

app = typer.Typer(
    help="Control which organizations users see.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A user's name in Airflow; letter case matters.")]
Team = Annotated[bool, typer.Option("--team", help="NAME is a team or role of Airflow's auth manager.")]


@app.command("list")
def show(context: typer.Context, as_json: Json = False) -> None:
    """List the confined users and teams.

    All others may see every organization.
    """
    with database().connect() as connection:
        found, total = access_scopes.confinements(connection, None, MAX_LISTED, 0)
    for confinement in found:
        _print(context, confinement, as_json)
    if not found:
        say("No user or team is confined")
    if total > len(found):
        say(f"{total - len(found)} more entries are not shown")


@app.command()
def confine(
    context: typer.Context,
    name: Name,
    organizations: Annotated[list[str], typer.Argument(metavar="ORG...", help="The organizations that NAME may see.")],
    team: Team = False,
    as_json: Json = False,
) -> None:
    """Confine a user or team to organizations.

    The list replaces any earlier one.
    """
    with database().connect() as connection:
        confined = access_scopes.confine(connection, _kind(team), name, organizations, by=operator())
    _print(context, confined, as_json)
    say(f"This command does not check that Airflow has a {_kind(team).value.lower()} with exactly the name {name}")


@app.command()
def release(context: typer.Context, name: Name, team: Team = False, as_json: Json = False) -> None:
    """Let a user or team see all again."""
    with database().connect() as connection:
        if not access_scopes.is_confined(connection, _kind(team), name):
            raise NotFoundHere(f"{_kind(team).value.lower()} {name} is not confined")
        released = access_scopes.confine(connection, _kind(team), name, [], by=operator())
    _print(context, released, as_json)


def _kind(team: bool) -> SubjectKind:
    return SubjectKind.TEAM if team else SubjectKind.USER


def _print(context: typer.Context, confinement: Confinement, as_json: bool) -> None:
    print(json.dumps(confinement.as_json()) if context.obj or as_json else confinement.line())
