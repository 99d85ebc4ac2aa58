"""Keep the connections of the API server open between requests."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from softpro.db.database import Connection, Database
from softpro.errors import DatabaseUnavailable

MAX_CONNECTIONS = 8
MAX_WAITING = 64
WAIT_SECONDS = 3.0
"""The time that a request waits for a connection."""

IDLE_SECONDS = 60.0
RESET_SESSION = """
reset all;
select pg_advisory_unlock_all();
delete from softpro.locks where backend_pid = pg_backend_pid()
"""

logging.getLogger("psycopg.pool").setLevel(logging.WARNING)  # it reports every use of a connection


class _ProcessPool:
    """The pool of this process, opened on first use. A forked process opens its own."""

    def __init__(self) -> None:
        self._opening = Lock()
        self._opened: tuple[int, ConnectionPool[Connection]] | None = None

    def get(self, conninfo: str) -> ConnectionPool[Connection]:
        with self._opening:
            if self._opened is None or self._opened[0] != os.getpid():
                self._opened = (os.getpid(), _open(conninfo))
            return self._opened[1]

    def close(self) -> None:
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None


@dataclass(frozen=True)
class PooledDatabase(Database):
    """A database whose connections are kept open and shared by the threads of the process."""

    _pool: _ProcessPool = field(default_factory=_ProcessPool, repr=False, compare=False)

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        pool = self._pool.get(self.conninfo)
        connection = self._checked_out(pool)
        try:
            with connection:
                yield connection
        finally:
            pool.putconn(connection)

    def close(self) -> None:
        """Close the connections of this process."""
        self._pool.close()

    def _checked_out(self, pool: ConnectionPool[Connection]) -> Connection:
        """Return a connection that works, set up anew. Those that a restart of the server broke are replaced.

        Raises:
            DatabaseUnavailable: none is free, or the server cannot be reached.
            SettingsError: the login is a superuser.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        try:
            while True:
                connection = pool.getconn(timeout=max(0.01, deadline - time.monotonic()))
                try:
                    self._begin(connection)
                except psycopg.OperationalError:
                    pool.putconn(connection)
                except BaseException:
                    pool.putconn(connection)
                    raise
                else:
                    return connection
        except (PoolTimeout, TooManyRequests):
            raise DatabaseUnavailable(
                f"The database did not give a connection within {WAIT_SECONDS:.0f} s: try again later"
            ) from None


def _open(conninfo: str) -> ConnectionPool[Connection]:
    return ConnectionPool(
        conninfo,
        connection_class=psycopg.Connection[DictRow],
        kwargs={"autocommit": True, "row_factory": dict_row},
        min_size=0,
        max_size=MAX_CONNECTIONS,
        max_waiting=MAX_WAITING,
        max_idle=IDLE_SECONDS,
        reconnect_timeout=WAIT_SECONDS,  # a longer one would delay the first request after an outage
        reset=_reset,
        open=True,
    )


def _reset(connection: Connection) -> None:
    """Undo what a request left in the session."""
    connection.execute(RESET_SESSION)
