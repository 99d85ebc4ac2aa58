"""Open the database of the API server: pooled connections whose statements end within seconds."""

from __future__ import annotations

from functools import cache
from threading import Lock

from softpro.db.database import Database
from softpro.db.pool import PooledDatabase
from softpro.orchestration.hook import api_server_database

STATEMENT_TIMEOUT, LOCK_TIMEOUT = "5s", "2s"
EXPENSIVE_STATEMENT_TIMEOUT = "10s"
IDLE_TIMEOUT = "30s"
"""The time that a transaction may be idle, and so hold its locks."""


_finding = Lock()


def web_database() -> PooledDatabase:
    """Return the database that all routes use. Its address is read once per process."""
    with _finding:  # so that the process has one pool
        return _find()


@cache
def _find() -> PooledDatabase:
    limited = api_server_database().set(
        statement_timeout=STATEMENT_TIMEOUT,
        lock_timeout=LOCK_TIMEOUT,
        idle_in_transaction_session_timeout=IDLE_TIMEOUT,
    )
    return PooledDatabase(limited.conninfo, settings=limited.settings)


def close_web_database() -> None:
    """Close the pool, if a route has opened it."""
    if _find.cache_info().currsize:
        _find().close()


def expensive_database(name: str) -> Database:
    """Return the database for one expensive request. Its sessions have this name, and are not pooled."""
    return web_database().set(statement_timeout=EXPENSIVE_STATEMENT_TIMEOUT).named(name)
