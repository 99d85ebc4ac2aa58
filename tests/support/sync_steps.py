"""Where a sync is, seen from outside: a lock holds it where it is about to write, and PostgreSQL shows it waiting.

The only helper that knows which step works in which table.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from softpro.db.database import Database
from softpro.entities import EntityType

PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Moment:
    """The step that a process is in, and the table it is about to write; or else what is asked of it."""

    step: str
    table: str = ""


# `{table}` stands for that of the entity type.
MOMENTS = {
    "waiting for an answer": Moment("extract"),
    "landing a page": Moment("extract", "raw.records"),
    "mapping": Moment("transform", "staging.{table}"),
    "staged": Moment("check"),
    "about to judge": Moment("check", "staging.{table}"),
    "judging": Moment("check", "staging.{table}"),
    "merging": Moment("load", "roi.{table}"),
    "closing the log": Moment("finish", "softpro.integrations"),
}

STAGED = "select exists (select from {staging})"
JUDGED = "run_{table}"  # what Great Expectations sees of staging
LOOKS = {"about to judge": 1, "judging": 2}  # at it: first how many rows it has
WAITING = """
select max(a.query)
from pg_locks l
join pg_stat_activity a on a.pid = l.pid
where a.datname = current_database() and not l.granted and l.relation = %s::regclass
"""


@contextmanager
def held_at(
    database: Database,
    name: str,
    entity_type: EntityType,
    start: Callable[[], subprocess.Popen[str]],
    asked: Callable[[], bool],
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts a sync of the entity type and holds it at the moment of this name: the process, and what it waits with.

    Who stops the database meanwhile ends the hold as well. `asked` tells whether the vendor has a request that it did
    not answer yet: it has to take its time, as nothing else holds a process there.
    """
    moment = MOMENTS[name]
    table = moment.table.format(table=entity_type.table)
    with closing(psycopg.connect(database.conninfo)) as holder, closing(_watcher(database)) as watcher:
        if table and moment.step != "check":
            _lock(holder, table, "share")
        with start() as process:
            try:
                if name == "waiting for an answer":
                    until(process, asked, name)
                if moment.step == "check":
                    staging = sql.Identifier("staging", entity_type.table)
                    until(process, lambda: _value(watcher, sql.SQL(STAGED).format(staging=staging)), name)
                for _ in range(LOOKS.get(name, 0)):
                    waiting = ""
                    while JUDGED.format(table=entity_type.table) not in waiting:
                        holder.rollback()
                        _lock(holder, table, "access exclusive")
                        waiting = _waiting(watcher, process, table, name)
                yield process, _waiting(watcher, process, table, name) if table else ""
            finally:
                process.kill()


def until(process: subprocess.Popen[str], reached: Callable[[], object], what: str) -> None:
    """Waits until the process is there; it must not end before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert process.poll() is None, f"the sync ended before {what}: {process.communicate()}"
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS} s for {what}"
        time.sleep(0.005)


def _waiting(
    watcher: psycopg.Connection[tuple[object, ...]], process: subprocess.Popen[str], table: str, name: str
) -> str:
    """The statement that waits for the table, once one does."""
    found: list[object] = []

    def look() -> object:
        found[:] = [_value(watcher, WAITING, table)]
        return found[0]

    until(process, look, name)
    return " ".join(str(found[0]).split())


def _watcher(database: Database) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(database.conninfo, autocommit=True)


def _lock(holder: psycopg.Connection[tuple[object, ...]], table: str, mode: str) -> None:
    """`share`: everybody may read the table meanwhile, nobody write it; `access exclusive`: nor read it."""
    holder.execute(sql.SQL("lock table {} in {} mode").format(sql.Identifier(*table.split(".")), sql.SQL(mode)))


def _value(watcher: psycopg.Connection[tuple[object, ...]], query: str | sql.Composed, *parameters: object) -> object:
    row = watcher.execute(query, parameters or None).fetchone()
    assert row is not None
    return row[0]
