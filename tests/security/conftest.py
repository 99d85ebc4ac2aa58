"""Define logins of the database that have few rights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from softpro.db.database import Connection, Database

from ..support.databases import execute

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


@pytest.fixture
def logins(database: Database) -> Iterator[Logins]:
    """Return the logins, with their rights in this test's database."""
    for login, grants in GRANTS.items():
        named = sql.Identifier(login)
        execute(database, sql.SQL(CREATE_LOGIN).format(named))
        for grant in grants:
            execute(database, sql.SQL(grant).format(named))
    yield Logins(database)
    for login in GRANTS:
        execute(database, sql.SQL("drop owned by {}").format(sql.Identifier(login)))
