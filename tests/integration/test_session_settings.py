"""Connect to databases whose settings differ, and keep the product's results the same."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from softpro.db import session
from softpro.db.database import Database, database_at
from softpro.db.integrations import Integration
from softpro.db.pool import PooledDatabase
from softpro.entities import EntityType, Mode
from softpro.errors import SettingsError
from softpro.services import Services

from ..support.databases import LOADER, Server, as_login, execute, one, rows
from ..support.product import command, environment, sync
from ..support.sandbox import Sandbox

ODD = {
    "client_encoding": "LATIN1",
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "search_path": "elsewhere, pg_temp",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "row_security": "off",
    "bytea_output": "escape",
    "extra_float_digits": "-5",
    "transform_null_equals": "on",
    "synchronous_commit": "off",
}
SHADOWS = "create schema elsewhere; create table elsewhere.landing (x int); create table elsewhere.ruled (x int)"


@pytest.fixture
def odd(database: Database) -> Database:
    """Give the database other defaults and tables that would shadow the product's temporary ones."""
    execute(database, SHADOWS)
    with database.connect() as connection:
        for name, value in ODD.items():
            statement = sql.SQL("alter database {} set {} to {}").format(
                sql.Identifier(connection.info.dbname), sql.Identifier(name), _value(name, value)
            )
            connection.execute(statement)
    return database


def _value(name: str, value: str) -> sql.Composable:
    if name == "search_path":
        return sql.SQL(", ").join(map(sql.Identifier, value.split(", ")))
    return sql.Literal(value)


def test_every_kind_of_connection_pins_the_settings(odd: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"PGCLIENTENCODING": "LATIN1", "PGDATESTYLE": "German", "PGTZ": "Asia/Kathmandu"}.items():
        monkeypatch.setenv(variable, value)
    query = "select lower(name) as name, setting from pg_settings where lower(name) = any(%s)"
    names = list(session.PINNED)
    pooled, engine = PooledDatabase(as_login(odd, LOADER).conninfo), odd.engine()

    async def asynchronously() -> list[dict[str, Any]]:
        async with await odd.open_async() as connection:
            return await (await connection.execute(query, [names])).fetchall()

    try:
        found = [rows(odd, query, names), asyncio.run(asynchronously())]
        for _ in range(2):  # also after a request that changed its session
            found.append(rows(pooled, query, names))
            execute(pooled, "set timezone = 'Asia/Kathmandu'")
        with engine.connect() as connection:
            result = connection.exec_driver_sql(query, (names,)).all()
            found.append([{"name": name, "setting": setting} for name, setting in result])
    finally:
        pooled.close()
        engine.dispose()

    assert [{row["name"]: row["setting"] for row in each} for each in found] == [session.PINNED] * 5


def test_other_defaults_of_a_database_change_no_value(
    odd: Database, services: Services, acme: Integration, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    organization = str(acme.softpro_organization_id)
    body = {"contactId": "con-odd", "firstName": "José Łukasz 名", "lastName": "x", "updatedAt": "2025-01-01T00:00:00Z"}
    sandbox.put(organization, body, "CONTACT")
    names = "select first_name from roi.contacts where softpro_contact_id = 'con-odd'"
    for mode in (Mode.FULL, Mode.INCREMENTAL, Mode.FULL):
        for entity_type in EntityType:
            assert sync(services, acme, entity_type, mode).status == "COMPLETED"
        assert one(odd, names) == "José Łukasz 名"
        sandbox.change(organization, "CONTACT", 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("-c DateStyle=German", "its options set datestyle, which must be ISO, MDY"),
        ("-c work_mem=64MB --client-encoding=LATIN1", "its options set client_encoding, which must be UTF8"),
        ("-csearch_path=mine", "its options set search_path"),
        ("-E", "options should be settings, such as -c work_mem=64MB"),
    ],
)
def test_an_address_whose_options_the_product_cannot_take_is_refused(options: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        database_at(make_conninfo("postgresql://someone@127.0.0.1/none", options=options))


def test_other_options_of_an_address_apply(database: Database) -> None:
    address = make_conninfo(database.conninfo, options=r"-c work_mem=17MB --application-name=with\ blank")
    with database_at(address).connect() as connection:
        shown = connection.execute("select current_setting('work_mem') m, current_setting('application_name') n")
        assert shown.fetchone() == {"m": "17MB", "n": "with blank"}


def test_migrate_refuses_a_database_that_cannot_store_every_name(server: Server, sandbox: Sandbox) -> None:
    with server.fresh("template0") as database, database.connect() as connection:
        name = f"{connection.info.dbname}_latin"
        connection.execute(
            sql.SQL("create database {} encoding 'LATIN1' locale 'C' template template0").format(sql.Identifier(name))
        )
        try:
            settings = environment(Database(make_conninfo(database.conninfo, dbname=name)), sandbox)
            refused = command(settings, "migrate")
        finally:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
    assert refused.code == 1
    assert refused.err.startswith("softpro: The database has the encoding LATIN1, which can't store every name. Create")


def alter(database: Database, statement: str) -> None:
    with database.connect() as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(connection.info.dbname)))


def test_a_login_that_may_not_create_temporary_tables_is_refused_in_a_sentence(
    database: Database, sandbox: Sandbox
) -> None:
    alter(database, "revoke temporary on database {} from public, softpro_loader")
    settings = environment(database, sandbox)
    for arguments in (["status"], ["sync", "acme"], ["push", "acme"], ["mappings", "show", "acme"]):
        refused = command(settings, *arguments)
        assert "may not create temporary tables" in refused.err
        assert (refused.code, refused.err.count("\n")) == (1, 1), refused


def test_a_database_that_can_only_read_is_named_in_a_sentence(
    database: Database, settings: dict[str, str], acme: Integration
) -> None:
    alter(database, "alter database {} set default_transaction_read_only to on")
    assert command(settings, "status").code == 0
    for arguments in (
        ["sync", "acme"],
        ["push", "acme"],
        ["reconcile", "acme"],
        ["settings", "acme", "--set", "syncFrequency=600"],
        ["webhooks", "process"],
        ["access", "confine", "ann", "acme"],
        ["disconnect", "acme"],
    ):
        refused = command(settings, *arguments)
        assert "The database is read-only: it is a standby" in refused.err, (arguments, refused)
        assert "Traceback" not in refused.err
        assert refused.code == 1


def test_migrate_needs_no_right_to_create_when_nothing_is_to_do(database: Database, sandbox: Sandbox) -> None:
    with database.connect() as connection:
        name = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("revoke create on database {} from softpro_owner, softpro_loader").format(name))
    settings = environment(database, sandbox)
    settings["SOFTPRO_MIGRATE_DATABASE_URL"] = settings["SOFTPRO_DATABASE_URL"]
    migrated = command(settings, "migrate")
    assert (migrated.code, migrated.err) == (0, "")


def test_database_errors_show_no_values_of_rows(database: Database) -> None:
    from softpro.db.sqlstate import describe

    raising = "do $$ begin raise exception 'John Doe' using errcode = '42501'; end $$"
    with database.connect() as connection:
        connection.execute("create temporary table own (name text constraint short check (length(name) < 3))")
        for statement, shown in (
            ("select 'John Doe'::int", "InvalidTextRepresentation (SQLSTATE 22P02)"),
            ("insert into own values ('John Doe')", "CheckViolation (SQLSTATE 23514), constraint short"),
            (raising, "InsufficientPrivilege (SQLSTATE 42501)"),
            ("select * from nowhere", 'relation "nowhere" does not exist'),
        ):
            with pytest.raises(psycopg.Error) as failed:
                connection.execute(statement)
            assert describe(failed.value).startswith(shown)
            assert "John" not in describe(failed.value)
