"""Count the buffers that the product's statements touch, with pg_stat_statements."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from softpro.db.database import Database

from ..support.databases import execute, rows

COUNTED = """
select
  query,
  calls,
  shared_blks_hit + shared_blks_read as touched,
  shared_blks_dirtied as dirtied,
  shared_blks_written as written
from pg_stat_statements
join pg_database on pg_database.oid = dbid
where datname = %s
order by touched desc
"""


@dataclass(frozen=True)
class Statement:
    """A statement, how often it ran, and the pages (of 8 KiB) that it touched, dirtied and wrote."""

    query: str
    calls: int
    touched: int
    dirtied: int
    written: int


def count_from_now(admin: Database, name: str, database: Database) -> None:
    """Count the statements of all later connections to this database.

    The table is vacuumed and analyzed first, as autovacuum would have done since its load.
    """
    execute(database, "vacuum analyze")
    execute(admin, sql.SQL("alter database {} set pg_stat_statements.track = top").format(sql.Identifier(name)))
    execute(admin, "select pg_stat_statements_reset()")


def counted(admin: Database, name: str) -> list[Statement]:
    """Return the counted statements of this database, most buffers first.

    The query runs in another database, so it is not counted itself.
    """
    return [Statement(**row) for row in rows(admin, COUNTED, name)]
