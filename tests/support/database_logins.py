"""Log in to the database with few rights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from softpro.db.database import Connection, Database

from .databases import execute

CREATE_LOGIN = "do $$ begin create role {} login; exception when duplicate_object then null; end $$"
GRANTS = {
    "attack_reader": ("grant usage on schema softpro, roi to {}", "grant select on all tables in schema roi to {}"),
    "attack_editor": (
        "grant usage on schema softpro, roi to {}",
        "grant select, insert, update, delete, truncate on roi.contacts, roi.transactions to {}",
    ),
    "attack_application": (
        "grant usage on schema roi to {}",
        "grant select, insert, update, delete on roi.contacts, roi.transactions to {}",
        "grant softpro_application to {}",
    ),
}

TRIGGER_FUNCTIONS = [
    f"softpro.{name}_of_{table}"
    for name in ("before_edit", "note_edit", "note_truncate")
    for table in ("transactions", "contacts")
]
FORGED_TABLE = """
create temporary table forged (id uuid, organization_id text);
create trigger forged {moment} on forged {each} execute function {function}()
"""


def forged_table(function: str) -> str:
    """Return statements that put one of the product's trigger functions on a table of one's own."""
    if "truncate" in function:
        return FORGED_TABLE.format(moment="before truncate", each="", function=function)
    moment = "before insert or update" if "before" in function else "after insert or update or delete"
    return FORGED_TABLE.format(moment=moment, each="for each row", function=function)


class Logins:
    """The database as its logins see it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @contextmanager
    def session(self, login: str) -> Iterator[Connection]:
        """Yield a session in autocommit of `reader`, `editor` or `application`."""
        conninfo = make_conninfo(self.database.conninfo, user=f"attack_{login}")
        with psycopg.connect(conninfo, autocommit=True, row_factory=dict_row) as connection:
            yield connection

    def create(self) -> None:
        """Create the logins, and grant their rights in this database."""
        for login, grants in GRANTS.items():
            named = sql.Identifier(login)
            execute(self.database, sql.SQL(CREATE_LOGIN).format(named))
            for grant in grants:
                execute(self.database, sql.SQL(grant).format(named))

    def drop_rights(self) -> None:
        for login in GRANTS:
            execute(self.database, sql.SQL("drop owned by {}").format(sql.Identifier(login)))
