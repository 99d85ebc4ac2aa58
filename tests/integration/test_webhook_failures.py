"""Process webhook events during other runs and after failures: no change is lost, none is reverted."""

from __future__ import annotations

import threading
import time
from uuid import uuid4

import pytest

from softpro.db import integrations
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.db.leases import Run
from softpro.entities import EntityType, Mode, SyncType
from softpro.mapping import repository
from softpro.mapping.mapping import Mapping
from softpro.runs import pipeline
from softpro.runs import sync as runs_sync
from softpro.services import Services
from softpro.webhooks import events as stored
from softpro.webhooks.worker import DrainResult, drain

from ..support.databases import execute, one, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import Connected
from ..support.product import begin, quality_settings, sync
from ..support.sandbox import Sandbox
from ..support.webhook_events import add_event, backdate, events, outcomes

LAG = 5.1
TRANSACTION = EntityType.TRANSACTION


@pytest.fixture
def acme(connected: Connected, services: Services) -> Integration:
    """Connect and load 45 transactions."""
    integration = connected("acme")
    assert sync(services, integration).status == "COMPLETED"
    return integration


def process_events(services: Services, seconds: float = 30) -> DrainResult:
    return drain(services, run_id=f"test__{uuid4()}", seconds=seconds)


def begin_records(services: Services, integration: Integration, ids: list[str], sync_type: SyncType) -> Run:
    """Begin a run over these records and stop there."""
    with services.database.connect() as connection:
        current = integrations.get(connection, integration.id)
    run_id = f"test__{uuid4()}"
    return pipeline.begin(
        services.database,
        current,
        TRANSACTION,
        mode=Mode.RECORDS,
        sync_type=sync_type,
        run_id=run_id,
        records=ids,
    )


def deleted(database: Database, order_id: str) -> bool:
    query = "select deleted_at is not null from roi.transactions where softpro_order_id = %s"
    return bool(one(database, query, order_id))


def make_load_due(database: Database) -> None:
    """Make the pending load due."""
    execute(database, "update softpro.cursors set load_due_at = now() where load_due_at is not null")


def delete_by_webhook(services: Services, acme: Integration, order_id: str) -> None:
    add_event(services.database, acme, order_id, "TRANSACTION_DELETED")
    process_events(services)
    backdate(services.database, LAG)
    assert process_events(services).settled == 1


def test_a_record_staged_before_its_delete_does_not_come_back(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    [order_id] = sandbox.change(vendor_organization)
    run = begin(services, acme)
    pipeline.extract(services, run)
    pipeline.transform(services.database, run)
    pipeline.check(services.database, run, quality_settings())
    sandbox.delete(vendor_organization, order_id)
    delete_by_webhook(services, acme, order_id)
    assert deleted(services.database, order_id)

    pipeline.load(services.database, run)
    pipeline.finish(services.database, run)

    assert deleted(services.database, order_id)


def test_a_run_over_records_does_not_replace_rows_of_newer_mappings(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    [order_id] = sandbox.change(vendor_organization)
    run = begin_records(services, acme, [order_id], SyncType.MANUAL)
    pipeline.fetch(services, run)
    pipeline.transform(services.database, run)
    with services.database.connect() as connection:
        number = Mapping(TRANSACTION, "orderId", "transaction_number", "SOFTPRO_TO_ROI")
        repository.replace(connection, acme.id, "acme", [number], author="a test")
        current = integrations.get(connection, acme.id)
    runs_sync.remap(
        services.database,
        current,
        TRANSACTION,
        sync_type=SyncType.MANUAL,
        run_id="test__remap",
        quality=quality_settings(),
    )

    pipeline.check(services.database, run, quality_settings())
    pipeline.load(services.database, run)
    pipeline.finish(services.database, run)

    assert (
        one(services.database, "select transaction_number from roi.transactions where softpro_order_id = %s", order_id)
        == order_id
    )


def test_a_request_is_never_dated_later_than_its_sending(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    """Otherwise it would settle a later event, or one within the lag, that it cannot know."""
    order_id, held = min(sandbox.records(vendor_organization)), threading.Event()

    def hold_the_budget() -> None:
        with services.database.connect() as connection, connection.transaction():
            connection.execute("select from softpro.budgets for update")
            held.set()
            time.sleep(1)

    with services.database.connect() as connection:
        current = integrations.get(connection, acme.id)
    with services.client(current) as client:
        client.record(TRANSACTION, order_id)
        holder = threading.Thread(target=hold_the_budget)
        holder.start()
        held.wait()
        client.record(TRANSACTION, order_id)
        asked_at = client.asked_at
        holder.join()
    assert one(services.database, "select max(free_at) - interval '60 s' from softpro.budget_requests") > asked_at


def test_a_drain_that_died_after_the_last_event_was_settled_leaves_nothing_unloaded(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    [order_id] = sandbox.change(vendor_organization)
    add_event(services.database, acme, order_id, seconds_ago=LAG)
    died = begin_records(services, acme, [order_id], SyncType.WEBHOOK)
    pipeline.fetch(services, died)

    assert process_events(services).requests == 0

    assert one(services.database, "select count(*) from raw.pending") == 0
    assert actual_rows(services.database, "acme") == expected_rows(sandbox.records(vendor_organization))
    assert one(services.database, "select status from softpro.sync_logs where id = %s", died.log_id) == "FAILED"
    assert one(services.database, "select count(*) from softpro.cursors where load_due_at is not null") == 0


def test_a_failed_load_is_repeated_later_without_another_event(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    [order_id] = sandbox.change(vendor_organization)
    add_event(services.database, acme, order_id, seconds_ago=LAG)
    execute(services.database, "alter table roi.transactions add constraint full_disk check (false) not valid")
    assert process_events(services, 3).settled == 1
    assert one(services.database, "select count(*) from raw.pending") == 1
    assert one(services.database, "select count(*) from softpro.sync_logs where sync_type = 'WEBHOOK'") == 1

    execute(services.database, "alter table roi.transactions drop constraint full_disk")
    make_load_due(services.database)
    process_events(services)

    assert actual_rows(services.database, "acme") == expected_rows(sandbox.records(vendor_organization))


def test_a_late_event_of_a_missing_record_causes_one_more_request(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    order_id = min(sandbox.records(vendor_organization))
    sandbox.delete(vendor_organization, order_id)
    add_event(services.database, acme, order_id, "TRANSACTION_DELETED", seconds_ago=20)
    execute(services.database, "update softpro.webhook_events set missing_at = received_at + interval '10 s'")
    execute(services.database, "update raw.records set last_seen_at = last_seen_at - interval '1 day'")
    add_event(services.database, acme, order_id, "PARTY_REMOVED")

    assert process_events(services, 2).requests == 1

    backdate(services.database, LAG)
    assert process_events(services) == DrainResult(settled=2, requests=1)


def test_a_404_of_long_ago_and_one_of_now_are_no_two(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    order_id = min(sandbox.records(vendor_organization))
    sandbox.delete(vendor_organization, order_id)
    event = add_event(services.database, acme, order_id, "TRANSACTION_DELETED", seconds_ago=9000)
    execute(services.database, "update softpro.webhook_events set missing_at = received_at, attempts = 5")
    execute(services.database, "update raw.records set last_seen_at = last_seen_at - interval '1 day'")
    with services.database.connect() as connection:
        stored.retry(connection, acme.id, events(services.database)[event]["id"], "a person")

    process_events(services)

    assert outcomes(services.database) == {event: None}
    assert not deleted(services.database, order_id)


def test_while_a_batch_is_held_its_events_are_processed_and_the_schedule_is_unchanged(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    execute(
        services.database,
        """
        insert into softpro.holds (integration_id, organization_id, entity_type, log_id, findings, records)
        select id, organization_id, 'TRANSACTION', gen_random_uuid(), '[]', 1 from softpro.integrations
        """,
    )
    before = rows(services.database, "select failures, next_attempt_at, last_synced_at from softpro.cursors")
    for order_id in sorted(sandbox.records(vendor_organization))[:30]:
        add_event(services.database, acme, order_id, seconds_ago=LAG)

    assert process_events(services).settled == 30

    assert rows(services.database, "select failures, next_attempt_at, last_synced_at from softpro.cursors") == before
    ended = rows(services.database, "select distinct status from softpro.sync_logs where sync_type = 'WEBHOOK'")
    assert ended == [{"status": "COMPLETED"}]


def test_records_skipped_for_lack_of_time_are_reported(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    changed = sandbox.change(vendor_organization, count=3)
    run = begin_records(services, acme, changed, SyncType.MANUAL)

    def work() -> None:
        pipeline.fetch_all(services, run, seconds=0)
        pipeline.apply(services.database, run, quality_settings())

    log = pipeline.run_and_close(services.database, run, work)

    assert (log.status, log.records_processed) == ("FAILED", 1)
    assert log.error_message is not None
    assert log.error_message.startswith("2 were not requested")
    assert log.error_message.endswith("first: the time ran out")


def test_a_killed_run_over_records_is_closed(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    from softpro.db import sync_logs

    [order_id] = sandbox.change(vendor_organization)
    died = begin_records(services, acme, [order_id], SyncType.MANUAL)
    pipeline.fetch(services, died)
    execute(services.database, "update softpro.sync_logs set started_at = started_at - interval '2 hours'")

    process_events(services)
    with services.database.connect() as connection:
        sync_logs.cancel_stale(connection)

    assert one(services.database, "select status from softpro.sync_logs where id = %s", died.log_id) == "FAILED"
    assert actual_rows(services.database, "acme") == expected_rows(sandbox.records(vendor_organization))


def test_a_slow_organization_does_not_delay_the_others_after_the_time_limit(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str, connected: Connected
) -> None:
    other_at = sandbox.unused_organization()
    other = connected("other", other_at)
    sync(services, other)
    slow, quick = min(sandbox.records(vendor_organization)), min(sandbox.records(other_at))
    waits = add_event(services.database, acme, slow, seconds_ago=LAG)
    with services.database.connect() as held, held.transaction():
        held.execute("select from softpro.budgets where integration_id = %s for update", [acme.id])
        draining = threading.Thread(target=process_events, args=(services, 0.5))
        draining.start()
        time.sleep(1.5)
        event = add_event(services.database, other, quick, seconds_ago=LAG)
        deadline = time.monotonic() + 60
        while not outcomes(services.database)[event] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert outcomes(services.database) == {waits: None, event: "FETCHED"}
    draining.join()
