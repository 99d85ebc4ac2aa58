"""Load records in parts while more are fetched: the tables stay exact, however such a run ends."""

from __future__ import annotations

import time

import pytest
from psycopg import sql

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType, Mode
from softpro.runs import background_load

from ..support.database_state import inconsistent_logs, leftovers
from ..support.databases import execute, one
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import StartSandbox
from ..support.product import connect_acme, environment, paused_process, sync
from ..support.sandbox import Sandbox
from ..support.sync_steps import wait_until

RECORDS, PAGE, PART = 600, 20, 40
SETTINGS = {"SOFTPRO_SYNC_BATCH_SIZE": str(PAGE)}
# Each part is loaded in its own transaction.
PARTS = "select count(distinct created_at) from roi.transactions"
# After this many parts the next one waits until the lock is free.
LOCK = 360
HOLD_AFTER = """
create function hold() returns trigger language plpgsql as $$
begin
    if (select count(distinct created_at) from roi.transactions) >= {parts} then
        perform pg_advisory_xact_lock({lock});
    end if;
    return null;
end $$;
create trigger hold before insert on roi.transactions for each statement execute function hold();
"""
WAITS = "select exists (select from pg_locks where locktype = 'advisory' and objid = %s and not granted)"
SYNC = f"""
import sys
from softpro.runs import background_load
background_load.MIN_PART = background_load.MAX_PART = {PART}
from softpro.__main__ import main
sys.argv = ["softpro", "sync", "acme", "--entity", "transactions"]
main()
"""


@pytest.fixture
def sandbox(start_sandbox: StartSandbox) -> Sandbox:
    """Start a sandbox with many slow pages, so that parts load during the fetch."""
    return start_sandbox(transactions=RECORDS, contacts=1, slow=1, slowSeconds=0.05)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_load, "MIN_PART", PART)
    monkeypatch.setattr(background_load, "MAX_PART", PART)


def assert_whole(database: Database, sandbox: Sandbox) -> None:
    expected = expected_rows(sandbox.records(sandbox.organizations[0]))
    assert actual_rows(database, "acme") == expected
    assert leftovers(database) == {}
    assert inconsistent_logs(database) == []


@pytest.mark.usefixtures("small_parts")
def test_parts_are_loaded_while_more_is_fetched(database: Database, sandbox: Sandbox) -> None:
    services, acme = connect_acme(database, sandbox, **SETTINGS)
    log = sync(services, acme)
    assert (log.status, log.records_fetched, log.records_processed, log.records_inserted) == (
        "COMPLETED",
        RECORDS,
        RECORDS,
        RECORDS,
    )
    assert one(database, PARTS) > 3
    assert_whole(database, sandbox)
    again = sync(services, acme, mode=Mode.FULL)
    assert (again.records_processed, again.records_inserted, again.records_updated) == (RECORDS, 0, 0)


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_fails_ends_the_run_with_its_error_and_the_next_run_loads_all(
    database: Database, sandbox: Sandbox
) -> None:
    services, acme = connect_acme(database, sandbox, **SETTINGS)
    sandbox.switch(slowSeconds=0.5)  # much is left to fetch
    execute(
        database,
        """
        create function refuse() returns trigger language plpgsql as $$
        begin
            raise exception 'no more today' using errcode = '53400';
        end $$;
        create trigger refuse before insert on roi.transactions for each row execute function refuse();
        """,
    )
    log = sync(services, acme)
    assert log.status == "FAILED"
    assert "SQLSTATE 53400" in (log.error_message or "")
    assert log.records_fetched < RECORDS  # the run stopped before the end of the list
    execute(database, "drop trigger refuse on roi.transactions")
    sandbox.switch(slow=0)
    assert sync(services, acme).status == "COMPLETED"
    assert_whole(database, sandbox)


@pytest.mark.parametrize("parts", [1, 3])
def test_a_process_killed_between_two_parts_loses_nothing(database: Database, sandbox: Sandbox, parts: int) -> None:
    services, acme = connect_acme(database, sandbox, **SETTINGS)
    execute(database, HOLD_AFTER.format(parts=parts, lock=LOCK))
    with database.connect() as holder, paused_process(environment(database, sandbox, **SETTINGS), SYNC) as process:
        holder.execute("select pg_advisory_lock(%s)", [LOCK])
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        wait_until(process, lambda: one(database, WAITS, LOCK), f"the part after {parts}")
        process.kill()
    wait_for_the_lease(database, acme)
    assert one(database, PARTS) == parts
    execute(database, "drop trigger hold on roi.transactions")
    assert sync(services, acme).status == "COMPLETED"
    assert_whole(database, sandbox)


def wait_for_the_lease(database: Database, acme: Integration) -> None:
    free = sql.SQL("select softpro.is_free(l) from softpro.leases l where entity_type = {}").format(
        sql.Literal(EntityType.TRANSACTION.value)
    )
    deadline = time.monotonic() + 120
    while not one(database, free):
        assert time.monotonic() < deadline
        time.sleep(0.05)
