"""Run the migrations of `sql/migrations`, forward only, each in one transaction, one process at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from softpro.db import audit_log, locks, queries, roles
from softpro.db.database import Connection, Database
from softpro.errors import DatabaseUnavailable

SQL_DIRECTORY = Path(__file__).resolve().parents[3] / "sql"
MIN_POSTGRES_VERSION = 16  # the first with `pg_input_is_valid`, which shows the records that jsonb can store

LOCK_WAIT_SECONDS = 120

SELECT_HOLDER = """
select l.pid, a.usename as login, coalesce(a.client_addr::text, 'this machine') as address
from pg_locks l
join pg_stat_activity a on a.pid = l.pid
where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and ((l.classid::bigint << 32) | l.objid::bigint) = %s
  and l.database = (select oid from pg_database where datname = current_database())
"""


def migrate(database: Database, members: Mapping[str, Database] | None = None) -> list[str]:
    """Set up the roles, bring the schema up to date, and return the migrations run, oldest first.

    Args:
        database: the database as the login that migrates; it may be a superuser.
        members: the database as the product opens it, by the role of which that login is to be a member. By default
            the login that migrates is the product's.

    Raises:
        DatabaseUnavailable: the database can't be reached, this login lacks a right, or another migration runs.
    """
    administrator = replace(database, superuser=True)
    with administrator.connect() as session:
        version = session.info.server_version // 10_000
        if version < MIN_POSTGRES_VERSION:
            raise DatabaseUnavailable(f"PostgreSQL {MIN_POSTGRES_VERSION} or later is needed; this is {version}")
        _require_utf8(session)
        _require_sessions(administrator, session)
        _lock(session)
        roles.prepare(session, members or {})
        ran = _upgrade(administrator)
        if ran:
            audit_log.record(session, "schema.migrate", after={"migrations": ran})
        return ran


def _require_utf8(session: Connection) -> None:
    """Check the encoding of the database. Raises DatabaseUnavailable for any but UTF8, which can't store all names."""
    encoding = session.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise DatabaseUnavailable(
            f"The database has the encoding {encoding}, which can't store every name. Create one with "
            "`create database … encoding 'UTF8' template template0`"
        )


def _require_sessions(database: Database, session: Connection) -> None:
    """Check that two connections have two sessions of the server.

    Raises:
        DatabaseUnavailable: a pooler shares one session between them, so locks and temporary tables would be lost.
    """
    with database.connect() as other:
        pids = {queries.value(each, "select pg_backend_pid()") for each in (session, other)}
    if len(pids) == 1:
        raise DatabaseUnavailable(
            "The address leads to a pooler that gives a session to a client for a transaction only, such as PgBouncer "
            "with pool_mode = transaction. The product needs sessions: set pool_mode = session, or name the server"
        )


def _lock(session: Connection) -> None:
    """Take the migrations' lock until the session ends.

    Raises:
        DatabaseUnavailable: another process holds it for too long.
    """
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while not queries.value(session, "select pg_try_advisory_lock(%s)", [locks.MIGRATIONS_KEY]):
        if time.monotonic() >= deadline:
            holder = session.execute(SELECT_HOLDER, [locks.MIGRATIONS_KEY]).fetchone()
            who = "{login}, process {pid}, from {address}".format(**holder) if holder else "a session that just ended"
            raise DatabaseUnavailable(f"Another migration runs for more than {LOCK_WAIT_SECONDS} s: {who}")
        time.sleep(0.1)


def _upgrade(database: Database) -> list[str]:
    """Run the missing migrations as the owner of the tables, and return them, oldest first."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    config = Config()
    config.set_main_option("script_location", str(SQL_DIRECTORY / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    ran: list[str] = []

    def upgrade(revision: Any, _context: Any) -> Any:
        steps = scripts._upgrade_revs("head", revision)
        ran.extend(step.revision.revision for step in steps)
        return steps

    engine = database.engine()
    try:
        with engine.connect() as connection:
            connection.execute(text(f"set role {roles.OWNER}"))
            connection.execute(text("set lock_timeout = '30s'"))
            connection.commit()
            config.attributes["connection"] = connection
            with EnvironmentContext(config, scripts, fn=upgrade, transaction_per_migration=True):
                scripts.run_env()
            connection.commit()
    except DBAPIError as failed:
        raise DatabaseUnavailable(
            f"The database can't be migrated: {str(failed.orig).strip().splitlines()[0]}"
        ) from None
    finally:
        engine.dispose()
    return ran


def newest() -> str:
    """Return the revision that `migrate` brings the schema to, by the numbers of the migration files."""
    return max(path.name.partition("_")[0] for path in (SQL_DIRECTORY / "migrations" / "versions").glob("[0-9]*.py"))
