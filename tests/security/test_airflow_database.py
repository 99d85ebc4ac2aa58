"""Give Airflow a login of its own, also where its database was made by the server's owner."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from softpro.db.database import Database

from ..support.databases import execute

SCRIPT = Path(__file__).resolve().parents[2] / "sql" / "airflow_database.py"
LOGIN, NAME = "attack_airflow", "attack_airflow_database"


@pytest.fixture
def administrator(database: Database) -> Iterator[str]:
    """Return the server's owner, and remove what the script made."""
    owner = make_conninfo(database.conninfo, user="postgres")
    yield owner
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(NAME)))
        connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(LOGIN)))


def run(administrator: str) -> None:
    host = conninfo_to_dict(administrator)["host"]
    environment = {
        "SOFTPRO_MIGRATE_DATABASE_URL": administrator,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{LOGIN}:secret@/{NAME}?host={host}",
    }
    subprocess.run([sys.executable, SCRIPT], env=environment, check=True)


def test_airflow_owns_its_database_and_nothing_else(administrator: str) -> None:
    run(administrator)
    run(administrator)
    with psycopg.connect(make_conninfo(administrator, user=LOGIN, dbname=NAME)) as connection:
        connection.execute("create table dag (id int)")
        [row] = connection.execute("select rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = user")
    assert row == (False, False, False)


def test_tables_that_a_superuser_made_are_handed_over(administrator: str) -> None:
    with psycopg.connect(administrator, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(NAME)))
    with psycopg.connect(make_conninfo(administrator, dbname=NAME)) as connection:
        connection.execute("create type state as enum ('up')")
        connection.execute('create table "Odd Name" (id serial primary key, state state)')
        connection.execute("create sequence alone")
    run(administrator)
    with psycopg.connect(make_conninfo(administrator, user=LOGIN, dbname=NAME)) as connection:
        connection.execute("alter type state add value 'down'")
        connection.execute('alter table "Odd Name" add note text')
        connection.execute("insert into \"Odd Name\" (state) values ('up')")
        connection.execute("alter sequence alone restart")


def test_other_logins_do_not_enter_airflows_database(administrator: str, database: Database) -> None:
    run(administrator)
    execute(database, "do $$ begin create role attack_reader login; exception when duplicate_object then null; end $$")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(make_conninfo(administrator, user="attack_reader", dbname=NAME))
