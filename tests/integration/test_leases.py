"""Let one run at a time move a stream. A dead run is succeeded at once, a slow one cannot overwrite its successor."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest

from softpro.db import sync_logs
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.db.leases import keeping, lock_announcements
from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import LeaseHeld, LeaseLost
from softpro.runs import pipeline
from softpro.services import Services

from ..support.databases import dump, execute, one, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import Connected, StartSandbox
from ..support.forked_process import ForkedProcess
from ..support.product import begin, begin_connection, build_services, command, environment, finish_connection, sync


def test_a_live_lease_is_refused_and_the_refusal_leaves_no_trace(
    connected: Connected, services: Services, settings: dict[str, str]
) -> None:
    integration = connected("acme")
    run = begin(services, integration)
    with keeping(services.database) as keeper:
        keeper.keep(run)
        before = dump(services.database)
        with pytest.raises(LeaseHeld, match=r"^Another run already syncs "):
            begin(services, integration)
        answer = command(settings, "sync", "acme", "--entity", "transactions")
        assert (answer.code, answer.out) == (1, "")
        assert answer.err.startswith("transactions: Another run already syncs ")
        assert dump(services.database) == before


def announced(services: Services, integration: Integration, run_id: str, barrier: Barrier | None = None) -> UUID:
    """Announce a run, possibly at the same moment as others, and return its log id."""
    if barrier is not None:
        barrier.wait()
    with services.database.connect() as connection, connection.transaction():
        lock_announcements(connection, integration.stream(EntityType.TRANSACTION))
        time.sleep(0.1)  # so that all of them have arrived
        return sync_logs.announce(
            connection,
            integration.stream(EntityType.TRANSACTION),
            run_id=run_id,
            mode=Mode.FULL,
            sync_type=SyncType.MANUAL,
        )


def test_one_of_several_concurrent_runs_is_accepted_and_the_others_get_its_log(
    connected: Connected, services: Services
) -> None:
    integration, barrier = connected("acme"), Barrier(4)

    def announce(number: int) -> UUID | LeaseHeld:
        try:
            return announced(services, integration, f"test__{number}", barrier)
        except LeaseHeld as held:
            return held

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(announce, range(4)))

    [taken] = [each for each in results if isinstance(each, UUID)]
    assert [each.log_id for each in results if isinstance(each, LeaseHeld)] == [taken] * 3


def test_a_run_that_was_announced_and_did_not_begin_blocks_for_two_minutes(
    connected: Connected, services: Services
) -> None:
    integration = connected("acme")
    log_id = announced(services, integration, "test__first")
    with pytest.raises(LeaseHeld, match=f"about to begin; its log is {log_id}"):
        announced(services, integration, "test__second")

    execute(services.database, "update softpro.sync_logs set mode = 'records'")
    assert announced(services, integration, "test__second"), "a run over a single record blocks no other"

    execute(services.database, "update softpro.sync_logs set started_at = started_at - interval '121 s'")
    assert announced(services, integration, "test__third")


def test_another_entity_of_the_same_organization_is_another_stream(connected: Connected, services: Services) -> None:
    integration = connected("acme")
    with keeping(services.database) as keeper:
        keeper.keep(begin(services, integration))
        assert sync(services, integration, EntityType.CONTACT).status == "COMPLETED"


def test_a_killed_run_is_followed_at_once_and_its_log_is_failed(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(transactions=40, slow=1, slowSeconds=0.25)
    settings = environment(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="3")
    services = build_services(settings, database)
    address = sandbox.consent(begin_connection(services, "acme"), sandbox.organizations[0])
    integration = finish_connection(services, address)
    slow = ForkedProcess(
        *("softpro", "sync", "acme", "--entity", "transactions"),
        environment=settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while one(database, "select count(*) from raw.records") < 7 and time.monotonic() < deadline:
        time.sleep(0.05)
    slow.kill()
    slow.wait()
    landed = one(database, "select count(*) from raw.records")
    assert 7 <= landed < 40
    sandbox.switch(slow=0)
    began = time.monotonic()
    while True:  # the server takes a moment to notice that the session's client is gone
        try:
            log = sync(services, integration)
            break
        except LeaseHeld:
            assert time.monotonic() - began < 20, "its lease would end after 30 s"
            time.sleep(0.1)
    assert log.records_fetched <= 40 - landed + 3
    assert actual_rows(database, "acme") == expected_rows(sandbox.records(sandbox.organizations[0]))
    orphan, successor = rows(database, "select status, error_message from softpro.sync_logs order by started_at")
    assert (orphan["status"], successor["status"]) == ("FAILED", "COMPLETED")
    assert "The run stopped responding" in orphan["error_message"]


def test_a_run_that_was_presumed_dead_can_neither_land_nor_settle(connected: Connected, services: Services) -> None:
    integration = connected("acme")
    database = services.database
    presumed_dead = begin(services, integration)
    pipeline.extract(services, presumed_dead, seconds=0)
    pipeline.transform(database, presumed_dead)
    execute(database, "update softpro.leases set expires_at = now() - interval '1 second'")
    successor = begin(services, integration)
    before = dump(database)
    with pytest.raises(LeaseLost):
        pipeline.extract(services, presumed_dead)
    with pytest.raises(LeaseLost):
        pipeline.transform(database, presumed_dead)
    with pytest.raises(LeaseLost):
        pipeline.load(database, presumed_dead)
    with pytest.raises(LeaseLost):
        pipeline.finish(database, presumed_dead)
    assert dump(database) == before
    pipeline.extract(services, successor)
    pipeline.transform(database, successor)
    pipeline.load(database, successor)
    assert pipeline.finish(database, successor).records_inserted == 45
