"""Hold a sync at a given step, observed from outside.

A lock stops the process where it is about to write, and PostgreSQL shows that it waits. Only this helper knows which
step works in which table.
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

TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class SyncStep:
    """The step that a process is in, and the table it is about to write; without a table it has another wait."""

    step: str
    table: str = ""


# `{table}` is the table of the entity type.
STEPS = {
    "waiting for an answer": SyncStep("extract"),
    "landing a page": SyncStep("extract", "raw.records"),
    "mapping": SyncStep("transform", "staging.{table}"),
    "staged": SyncStep("check"),
    "about to judge": SyncStep("check", "staging.{table}"),
    "judging": SyncStep("check", "staging.{table}"),
    "merging": SyncStep("load", "roi.{table}"),
    "closing the log": SyncStep("finish", "softpro.integrations"),
}

STAGED = "select exists (select from {staging})"
JUDGED = "run_{table}"  # the name of the staging table in Great Expectations
LOOKS = {"about to judge": 1, "judging": 2}  # how often the check queries it; the first query counts its rows
WAITING = """
select max(a.query)
from pg_locks l
join pg_stat_activity a on a.pid = l.pid
where a.datname = current_database() and not l.granted and l.relation = %s::regclass
"""


@contextmanager
def hold_at_step(
    database: Database,
    name: str,
    entity_type: EntityType,
    start: Callable[[], subprocess.Popen[str]],
    asked: Callable[[], bool],
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a sync of the entity type and hold it at the named step.

    Stopping the database ends the hold as well.

    Args:
        database: The database of the product.
        name: A key of `STEPS`.
        entity_type: The entity type that is synced.
        start: Starts the process.
        asked: Returns whether the vendor has an unanswered request. The vendor must be slow, as nothing else holds a
            process there.

    Yields:
        The process and the statement that waits for the lock.
    """
    moment = STEPS[name]
    table = moment.table.format(table=entity_type.table)
    with closing(psycopg.connect(database.conninfo)) as holder, closing(_watcher(database)) as watcher:
        if table and moment.step != "check":
            _lock(holder, table, "share")
        with start() as process:
            try:
                if name == "waiting for an answer":
                    wait_until(process, asked, name)
                if moment.step == "check":
                    staging = sql.Identifier("staging", entity_type.table)
                    wait_until(process, lambda: _value(watcher, sql.SQL(STAGED).format(staging=staging)), name)
                for _ in range(LOOKS.get(name, 0)):
                    waiting = ""
                    while JUDGED.format(table=entity_type.table) not in waiting:
                        holder.rollback()
                        _lock(holder, table, "access exclusive")
                        waiting = _waiting(watcher, process, table, name)
                yield process, _waiting(watcher, process, table, name) if table else ""
            finally:
                process.kill()


def wait_until(process: subprocess.Popen[str], reached: Callable[[], object], what: str) -> None:
    """Wait until `reached` returns a true value. Fail if the process ends before, or after the timeout."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not reached():
        assert process.poll() is None, f"the sync ended before {what}: {process.communicate()}"
        assert time.monotonic() < deadline, f"waited {TIMEOUT_SECONDS} s for {what}"
        time.sleep(0.005)


def _waiting(
    watcher: psycopg.Connection[tuple[object, ...]], process: subprocess.Popen[str], table: str, name: str
) -> str:
    """Return the statement that waits for the table, once one does."""
    found: list[object] = []

    def look() -> object:
        found[:] = [_value(watcher, WAITING, table)]
        return found[0]

    wait_until(process, look, name)
    return " ".join(str(found[0]).split())


def _watcher(database: Database) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(database.conninfo, autocommit=True)


def _lock(holder: psycopg.Connection[tuple[object, ...]], table: str, mode: str) -> None:
    """Lock the table. Mode `share` allows reads but no writes; `access exclusive` allows neither."""
    holder.execute(sql.SQL("lock table {} in {} mode").format(sql.Identifier(*table.split(".")), sql.SQL(mode)))


def _value(watcher: psycopg.Connection[tuple[object, ...]], query: str | sql.Composed, *parameters: object) -> object:
    row = watcher.execute(query, parameters or None).fetchone()
    assert row is not None
    return row[0]
