"""Share few connections between all requests, whatever happens to the server or the process."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import SimpleQueue

import pytest

from softpro.db import locks, pool
from softpro.db.database import Database
from softpro.db.locks import Lock
from softpro.db.pool import MAX_CONNECTIONS, PooledDatabase
from softpro.errors import DatabaseBusy, DatabaseUnavailable

from ..support.databases import Server, one
from .conftest import Web

SESSIONS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


@pytest.fixture
def pooled(database: Database) -> Iterator[PooledDatabase]:
    opened = PooledDatabase(database.conninfo)
    yield opened
    opened.close()


def test_fifty_status_calls_open_few_sessions(web: Web) -> None:
    session = web.as_user()
    session.post(f"{web.url}/connect", json={"organizationId": "acme"}, timeout=30).raise_for_status()
    first = one(web.database, "select max(backend_start) from pg_stat_activity where application_name = 'softpro'")

    def status(_: int) -> int:
        return session.get(f"{web.url}/status", params={"organizationId": "acme"}, timeout=30).status_code

    assert {status(n) for n in range(50)} == {200}
    assert one(web.database, f"{SESSIONS} and backend_start > %s", first) <= MAX_CONNECTIONS
    with ThreadPoolExecutor(50) as clients:
        assert set(clients.map(status, range(200))) == {200}
    assert one(web.database, SESSIONS) <= MAX_CONNECTIONS


def test_a_session_is_given_back_as_it_was(pooled: PooledDatabase) -> None:
    with pooled.connect() as connection:
        locks.try_lock(connection, Lock.PREVIEW, "x")
        connection.execute("set statement_timeout = '1ms'")
    with pytest.raises(RuntimeError), pooled.connect() as connection, connection.transaction():
        raise RuntimeError
    with pooled.connect() as connection:
        assert connection.execute("show statement_timeout").fetchone() == {"statement_timeout": "0"}
        assert connection.execute("select from pg_locks where locktype = 'advisory'").fetchall() == []
        assert connection.info.transaction_status == 0
        assert connection.autocommit


def test_a_request_waits_seconds_for_a_connection(
    pooled: PooledDatabase, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(MAX_CONNECTIONS) as others:
        busy = [others.submit(one, pooled, "select pg_sleep(3)") for _ in range(MAX_CONNECTIONS)]
        sleeping = "select count(*) from pg_stat_activity where query = 'select pg_sleep(3)' and state = 'active'"
        while one(database, sleeping) < MAX_CONNECTIONS:
            time.sleep(0.05)
        monkeypatch.setattr(pool, "WAIT_SECONDS", 0.5)
        begun = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="did not give a connection"), pooled.connect():
            pass
        assert time.monotonic() - begun < 2
        assert [each.result() for each in busy] == [""] * MAX_CONNECTIONS


def test_neither_a_held_lock_nor_a_long_statement_blocks_a_request(pooled: PooledDatabase) -> None:
    limited = PooledDatabase(pooled.conninfo, settings={"lock_timeout": "100ms", "statement_timeout": "500ms"})
    with pooled.connect() as holder, holder.transaction():
        holder.execute("lock table softpro.integrations")
        with pytest.raises(DatabaseBusy, match="works on this now"):
            one(limited, "select count(*) from softpro.integrations")
    with pytest.raises(DatabaseBusy, match="statement timeout"):
        one(limited, "select pg_sleep(5)")
    limited.close()


def test_the_pool_survives_a_restart_of_the_database(server: Server) -> None:
    with server.fresh() as database:
        pooled = PooledDatabase(database.conninfo)
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(lambda _: one(pooled, "select 1 from pg_sleep(0.2)"), range(4)))
        server.restart("immediate")
        assert one(pooled, "select 1") == 1
        pooled.close()


def test_a_forked_process_opens_its_own_connections(pooled: PooledDatabase) -> None:
    mine = one(pooled, "select pg_backend_pid()")
    context = multiprocessing.get_context("fork")
    queue: SimpleQueue[int] = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put(one(pooled, "select pg_backend_pid()")))
    child.start()
    child.join(20)

    assert child.exitcode == 0
    assert queue.get() != mine
    assert one(pooled, "select pg_backend_pid()") == mine
