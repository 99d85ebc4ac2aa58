"""Run the migrations of `sql/migrations`, forward only, each in one transaction, one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from softpro.db import locks
from softpro.db.database import Database
from softpro.db.locks import Lock
from softpro.errors import DatabaseUnavailable

SQL_DIRECTORY = Path(__file__).resolve().parents[3] / "sql"
MIN_POSTGRES_VERSION = 16  # the first with `pg_input_is_valid`, which shows the records that jsonb can store


def migrate(database: Database) -> list[str]:
    """Bring the schema up to date, and return the migrations run, oldest first. Raises DatabaseUnavailable."""
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
            if version < MIN_POSTGRES_VERSION:
                raise DatabaseUnavailable(f"PostgreSQL {MIN_POSTGRES_VERSION} or later is needed; this is {version}")
            connection.execute(text("select pg_advisory_lock(:key)"), {"key": locks.key(Lock.MIGRATIONS)})
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
    """Return the revision that `migrate` brings the schema to, by the numbers of the migration files."""
    return max(path.name.partition("_")[0] for path in (SQL_DIRECTORY / "migrations" / "versions").glob("[0-9]*.py"))
