"""Attack the tables with a reader's and an editor's login of the database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest
from psycopg import sql

from softpro.db import locks
from softpro.db.database import Connection, Database
from softpro.db.locks import Lock
from softpro.entities import EntityType
from softpro.errors import DatabaseUnavailable

from ..support.database_logins import CREATE_LOGIN, TRIGGER_FUNCTIONS, Logins, forged_table
from ..support.databases import LOADER, as_login, execute, one, rows
from ..support.product import command, connect_acme, environment, sync
from ..support.sandbox import Sandbox
from ..support.writeback import BothSides, run_push

CONTACT = EntityType.CONTACT
SCHEMAS = ["softpro", "raw", "staging", "roi", "analytics"]
SELECT_PUBLIC_ROUTINES = """
select p.oid::regprocedure::text as name from pg_proc p
cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
where p.pronamespace = any(%s::regnamespace[]) and a.grantee = 0
"""


@pytest.mark.parametrize("login", ["reader", "editor"])
@pytest.mark.parametrize("function", TRIGGER_FUNCTIONS)
def test_no_login_puts_a_trigger_function_on_a_table_of_its_own(logins: Logins, login: str, function: str) -> None:
    with logins.session(login) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(forged_table(function))


@pytest.mark.parametrize("function", TRIGGER_FUNCTIONS)
def test_a_trigger_that_a_login_has_from_before_writes_nothing(logins: Logins, function: str) -> None:
    execute(logins.database, f"grant execute on function {function} to attack_editor")
    attack = "truncate forged" if "truncate" in function else "insert into forged values (gen_random_uuid(), 'acme')"
    with logins.session("editor") as session:
        session.execute(forged_table(function))
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="serves roi"):
            session.execute(attack)
    assert one(logins.database, "select count(*) from softpro.outbox") == 0


def test_no_function_is_open_to_all_logins_now_or_later(database: Database) -> None:
    assert rows(database, SELECT_PUBLIC_ROUTINES, SCHEMAS) == []
    with as_login(database, LOADER).connect() as loader:
        loader.execute("set role softpro_owner")
        loader.execute("create function softpro.later() returns int language sql as 'select 1'")
        loader.execute("create procedure roi.later() language sql as 'select 1'")
    assert rows(database, SELECT_PUBLIC_ROUTINES, SCHEMAS) == []


def test_the_owner_of_everything_is_no_superuser_and_cannot_log_in(database: Database) -> None:
    owners = """
        select distinct rolname, rolsuper, rolcanlogin, rolbypassrls, rolcreaterole from pg_roles where oid in (
            select relowner from pg_class where relnamespace = any(%(schemas)s::regnamespace[])
            union select proowner from pg_proc where pronamespace = any(%(schemas)s::regnamespace[])
            union select typowner from pg_type where typnamespace = any(%(schemas)s::regnamespace[])
            union select nspowner from pg_namespace where nspname = any(%(schemas)s::text[]))
    """
    with database.connect() as connection:
        found = connection.execute(owners, {"schemas": SCHEMAS}).fetchall()
    assert [tuple(row.values()) for row in found] == [("softpro_owner", False, False, False, False)]


@pytest.mark.parametrize("table", ["transactions", "contacts", "transaction_parties", "properties", "documents"])
def test_a_view_of_versions_shows_only_what_its_reader_may_read(database: Database, logins: Logins, table: str) -> None:
    execute(database, f"revoke select on roi.{table} from attack_reader")
    with logins.session("reader") as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(f"select * from roi.{table}_versions")


@pytest.fixture
def contact(sides: BothSides) -> str:
    return sides.key


class TestEditor:
    """An editor may change values of contacts, and nothing about how changes are recorded."""

    def test_the_mark_of_the_loader_hides_no_edit(self, sides: BothSides, logins: Logins) -> None:
        with logins.session("editor") as session, session.transaction():
            session.execute("set local softpro.loading = 'on'")
            session.execute("update roi.contacts set notes = 'mine' where softpro_contact_id = %s", [sides.key])
        assert one(sides.database, "select count(*) from softpro.outbox where field = 'notes'") == 1
        assert one(sides.database, "select count(*) from roi.contacts_history") == 1

    @pytest.mark.parametrize(
        "change", ["organization_id = 'other'", "softpro_contact_id = 'x'", "id = gen_random_uuid()"]
    )
    def test_no_row_becomes_another_record(self, sides: BothSides, logins: Logins, change: str) -> None:
        with logins.session("editor") as session, session.transaction():
            session.execute("set local softpro.loading = 'on'")
            with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
                session.execute(f"update roi.contacts set {change} where softpro_contact_id = '{sides.key}'")

    @pytest.mark.parametrize("stamp", ["now()", "now() + interval '1 day'", "'-infinity'", "clock_timestamp()"])
    def test_no_time_of_update_keeps_a_version_out_of_the_history(
        self, sides: BothSides, logins: Logins, stamp: str
    ) -> None:
        (before,) = sides.roi_values("notes")
        with logins.session("editor") as session, session.transaction():
            session.execute(f"update roi.contacts set updated_at = {stamp} where softpro_contact_id = '{sides.key}'")
            session.execute("update roi.contacts set notes = 'mine' where softpro_contact_id = %s", [sides.key])
        (version,) = rows(sides.database, "select notes, changed_fields from roi.contacts_history")
        assert (version["notes"], version["changed_fields"]) == (before, ["notes"])

    @pytest.mark.parametrize("column", ["created_at", "softpro_created_at", "softpro_updated_at"])
    def test_the_times_of_the_sync_cannot_be_changed(self, sides: BothSides, logins: Logins, column: str) -> None:
        with logins.session("editor") as session, pytest.raises(psycopg.errors.IntegrityConstraintViolation):
            session.execute(f"update roi.contacts set {column} = now() - interval '1 year'")

    def test_only_an_application_may_name_its_user_and_the_login_stands_beside(
        self, sides: BothSides, logins: Logins
    ) -> None:
        for number, login in enumerate(("editor", "application")):
            with logins.session(login) as session, session.transaction():
                session.execute("select set_config('softpro.user', 'ann', true)")
                session.execute(
                    "update roi.contacts set notes = %s where softpro_contact_id = %s", [str(number), sides.key]
                )
        edits = rows(sides.database, "select changed_by, login from softpro.outbox order by id")
        assert [tuple(edit.values()) for edit in edits] == [
            ("attack_editor", "attack_editor"),
            ("ann", "attack_application"),
        ]

    def test_no_table_but_those_granted_can_be_written(self, sides: BothSides, logins: Logins) -> None:
        tables = rows(
            sides.database,
            "select schemaname || '.' || tablename as name from pg_tables where schemaname = any(%s)",
            SCHEMAS,
        )
        with logins.session("editor") as session:
            for name in {row["name"] for row in tables} - {"roi.contacts", "roi.transactions"}:
                for statement in (f"delete from {name}", f"truncate {name}", f"drop table {name}", f"lock {name}"):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege), session.transaction():
                        session.execute(statement)


def test_a_delete_is_not_sent_while_the_row_exists(sides: BothSides) -> None:
    sides.sync(EntityType.TRANSACTION)
    sides.change_settings(push_deletes=True)
    execute(
        sides.database,
        """
        insert into softpro.outbox
            (integration_id, organization_id, entity_type, roi_entity_id, entity_id, operation, old_value, changed_by)
        select i.id, t.organization_id, 'TRANSACTION', t.id, t.softpro_order_id, 'DELETE', to_jsonb(t), 'forged'
        from roi.transactions t, softpro.integrations i
        """,
    )
    records = sides.sandbox.records(sides.organization, "TRANSACTION")
    log = run_push(sides.services, sides.integration, EntityType.TRANSACTION)
    assert sides.sandbox.records(sides.organization, "TRANSACTION") == records
    assert log.records_failed == len(records)


@contextmanager
def every_advisory_lock(session: Connection, keys: list[int]) -> Iterator[None]:
    """Hold these advisory locks, as any login may."""
    for key in keys:
        session.execute("select pg_advisory_lock(%s)", [key])
    yield


def test_no_advisory_lock_of_a_login_stops_the_product(
    database: Database, logins: Logins, sandbox: Sandbox, vendor_organization: str
) -> None:
    services, integration = connect_acme(database, sandbox)
    ids = [integration.id, f"{integration.id} CONTACT", f"{integration.id} TRANSACTION", "", "ann"]
    keys = [locks.key(lock, subject) for lock in Lock for subject in ids] + [7363601, 360001, 360002]
    with logins.session("reader") as session, every_advisory_lock(session, keys):
        sandbox.expire(integration.softpro_organization_id or "")
        execute(database, "update softpro.integrations set token_expires_at = now()")
        assert sync(services, integration, CONTACT).succeeded  # refreshes the token
        assert run_push(services, integration).succeeded
        with services.database.connect() as worker:
            for lock in Lock:
                assert locks.try_lock(worker, lock, "")
                locks.unlock(worker, lock, "")


def test_a_session_of_an_earlier_release_keeps_its_lock(database: Database) -> None:
    with as_login(database, LOADER).connect() as earlier, as_login(database, LOADER).connect() as later:
        earlier.execute("select pg_advisory_lock(%s)", [locks.key(Lock.PUSH, "a record")])
        assert not locks.try_lock(later, Lock.PUSH, "a record")
        earlier.execute("select pg_advisory_unlock(%s)", [locks.key(Lock.PUSH, "a record")])
        assert locks.try_lock(later, Lock.PUSH, "a record")
        taken = earlier.execute("select pg_try_advisory_lock(%s) as taken", [locks.key(Lock.PUSH, "a record")])
        assert taken.fetchall() == [{"taken": False}]


def test_a_lock_ends_with_its_session(database: Database) -> None:
    loader = as_login(database, LOADER)
    with loader.connect() as another:
        with loader.connect() as owner:
            assert locks.try_lock(owner, Lock.TOKEN_REFRESH, "grant")
            assert not locks.try_lock(another, Lock.TOKEN_REFRESH, "grant")
        deadline = time.monotonic() + 10
        while not locks.try_lock(another, Lock.TOKEN_REFRESH, "grant"):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_migration_that_waits_says_who_holds_the_lock(
    database: Database, logins: Logins, monkeypatch: pytest.MonkeyPatch
) -> None:
    from softpro.db import migrations

    monkeypatch.setattr(migrations, "LOCK_WAIT_SECONDS", 0.2)
    with (
        logins.session("reader") as session,
        every_advisory_lock(session, [locks.MIGRATIONS_KEY]),
        pytest.raises(DatabaseUnavailable, match=r"attack_reader, process \d+"),
    ):
        migrations.migrate(database)


def test_only_migrate_runs_as_a_superuser(database: Database, sandbox: Sandbox) -> None:
    execute(
        database,
        sql.SQL("alter database {} set softpro.embedded = off").format(
            sql.Identifier(one(database, "select current_database()"))
        ),
    )
    settings = environment(database, sandbox, SOFTPRO_DATABASE_URL=database.conninfo)
    for arguments in (["status"], ["sync", "acme"], ["connect", "acme"], ["webhooks", "process"]):
        refused = command(settings, *arguments)
        assert refused.code == 2
        assert "superuser" in refused.err
        assert "Traceback" not in refused.err
    assert command(settings, "migrate").code == 0


def test_migrate_creates_the_logins_of_its_addresses(bare_database: Database, sandbox: Sandbox) -> None:
    def at(login: str) -> str:
        return f"{as_login(bare_database, login).conninfo} password=zq-secret"

    with ExitStack() as stack:
        for login in ("made_loader", "made_web"):
            stack.callback(execute, bare_database, f"drop owned by {login}; drop role {login}")
        settings = environment(
            bare_database,
            sandbox,
            SOFTPRO_MIGRATE_DATABASE_URL=bare_database.conninfo,
            SOFTPRO_DATABASE_URL=at("made_loader"),
            SOFTPRO_WEB_DATABASE_URL=at("made_web"),
        )
        migrated = command(settings, "migrate")
        assert (migrated.code, migrated.err) == (0, "")
        assert command(settings, "status").code == 0
        made = rows(
            bare_database,
            """
            select rolname, rolsuper, rolpassword like 'SCRAM-SHA-256$%%' as scram,
                   pg_has_role(oid, 'softpro_owner', 'member') as owner,
                   pg_has_role(oid, 'softpro_web', 'member') as web
            from pg_authid where rolname like 'made_%%' order by rolname
            """,
        )
        assert [tuple(row.values()) for row in made] == [
            ("made_loader", False, True, True, True),
            ("made_web", False, True, False, True),
        ]


def test_a_login_that_may_not_set_up_roles_is_given_the_statements(bare_database: Database, sandbox: Sandbox) -> None:
    execute(bare_database, CREATE_LOGIN.format("powerless"))
    settings = environment(
        bare_database,
        sandbox,
        SOFTPRO_MIGRATE_DATABASE_URL=as_login(bare_database, "powerless").conninfo + " password=zq-secret",
    )
    refused = command(settings, "migrate")
    assert (refused.code, refused.out) == (1, "")
    assert "grant" in refused.err
    assert "softpro_owner" in refused.err
    assert "zq-secret" not in refused.err
