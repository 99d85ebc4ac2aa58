"""Runs the migrations of `sql/migrations`, forward only, each in one transaction, one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from softpro.db.database import Database
from softpro.errors import DatabaseUnavailable

SQL_DIRECTORY = Path(__file__).resolve().parents[3] / "sql"
OLDEST_POSTGRES = 16  # `pg_input_is_valid` tells which records jsonb can hold
ADVISORY_LOCK = 7_363_601  # any number, the same for every process that migrates


def migrate(database: Database) -> list[str]:
    """Brings the schema up to date. Returns the migrations it ran, oldest first. Raises DatabaseUnavailable."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import DBAPIError

    config = Config()
    config.set_main_option("script_location", str(SQL_DIRECTORY / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    ran: list[str] = []

    def upgrade(revision: Any, _context: Any) -> Any:
        steps = scripts._upgrade_revs("head", revision)
        ran.extend(step.revision.revision for step in steps)
        return steps

    engine = create_engine(database.sqlalchemy_url())
    try:
        with engine.connect() as connection:
            version = connection.scalar(text("select current_setting('server_version_num')::int / 10000"))
            if version < OLDEST_POSTGRES:
                raise DatabaseUnavailable(f"PostgreSQL {OLDEST_POSTGRES} or later is needed; this is {version}")
            connection.execute(text("select pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
            for schema in ("softpro", "raw", "staging", "roi", "analytics"):
                connection.execute(text(f"create schema if not exists {schema}"))
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
    """The revision that `migrate` brings the schema to: they are numbered, and so are their files."""
    return max(path.name.partition("_")[0] for path in (SQL_DIRECTORY / "migrations" / "versions").glob("[0-9]*.py"))
