"""Treat a webhook event as a hint: only a fetch that began after its receipt and returned its record settles it."""

from __future__ import annotations

from datetime import datetime
from uuid import uuid4

import pytest

from softpro.db import integrations, locks
from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.db.locks import Lock
from softpro.services import Services
from softpro.webhooks.worker import DrainResult, drain

from ..support.databases import execute, one, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import Connected
from ..support.product import sync
from ..support.sandbox import Sandbox
from ..support.webhook_events import add_event, backdate, events, outcomes

LAG = 5.1


@pytest.fixture
def acme(connected: Connected, services: Services) -> Integration:
    """Connect and load 45 transactions."""
    integration = connected("acme")
    assert sync(services, integration).status == "COMPLETED"
    return integration


def process_events(services: Services, organization: str | None = None) -> DrainResult:
    return drain(services, run_id=f"test__{uuid4()}", seconds=30, organization=organization)


def updated_at(sandbox: Sandbox, organization: str, order_id: str) -> datetime:
    return datetime.fromisoformat(sandbox.records(organization)[order_id]["updatedAt"])


def record(order_id: str, updated: str) -> dict[str, object]:
    return {"orderId": order_id, "orderType": "SALE", "createdAt": "2025-01-01T00:00:00.000Z", "updatedAt": updated}


def agree(database: Database, sandbox: Sandbox, organization: str) -> bool:
    return actual_rows(database, "acme") == expected_rows(sandbox.records(organization))


def test_an_event_that_carries_its_record_is_settled_by_one_request(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    [order_id] = sandbox.change(vendor_organization)
    event = add_event(services.database, acme, order_id, carries=updated_at(sandbox, vendor_organization, order_id))
    before = sandbox.requests_of(vendor_organization)

    drained = process_events(services)

    assert drained == DrainResult(settled=1, left=0, failed=0, requests=1)
    assert sandbox.requests_of(vendor_organization) == before + 1
    assert outcomes(services.database) == {event: "FETCHED"}
    assert agree(services.database, sandbox, vendor_organization)
    [log] = rows(services.database, "select * from softpro.sync_logs where sync_type = 'WEBHOOK'")
    assert (log["mode"], log["status"], log["entity_id"], log["records_processed"]) == (
        "records",
        "COMPLETED",
        order_id,
        1,
    )
    assert events(services.database)[event]["log_id"] == log["id"]


def test_an_event_of_ids_alone_is_seen_at_once_and_settled_after_the_lag(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    [order_id] = sandbox.change(vendor_organization)
    event = add_event(services.database, acme, order_id)

    assert process_events(services).left == 1
    assert agree(services.database, sandbox, vendor_organization)
    backdate(services.database, LAG)

    assert process_events(services) == DrainResult(settled=1, left=0, failed=0, requests=1)
    assert outcomes(services.database) == {event: "FETCHED"}


def test_an_event_of_a_version_that_is_here_costs_nothing(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    [order_id] = sandbox.change(vendor_organization)
    sync(services, acme)
    event = add_event(services.database, acme, order_id, carries=updated_at(sandbox, vendor_organization, order_id))

    assert process_events(services).requests == 0
    assert outcomes(services.database) == {event: "FETCHED"}


def test_events_of_one_record_are_settled_together(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    [order_id] = sandbox.change(vendor_organization)
    for _ in range(30):
        add_event(services.database, acme, order_id, seconds_ago=LAG)

    assert process_events(services) == DrainResult(settled=30, left=0, failed=0, requests=1)


def test_many_records_are_settled_by_one_list_and_only_what_it_lacks_is_fetched_singly(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    changed = sandbox.change(vendor_organization, count=25)
    unchanged = sorted(sandbox.records(vendor_organization).keys() - set(changed))[:3]
    for order_id in [*changed, *unchanged]:
        add_event(services.database, acme, order_id, seconds_ago=LAG)
    before = sandbox.requests_of(vendor_organization)

    drained = process_events(services)

    assert (drained.settled, drained.left) == (28, 0)
    assert sandbox.requests_of(vendor_organization) - before == 1 + 3
    assert set(outcomes(services.database).values()) == {"FETCHED"}
    assert agree(services.database, sandbox, vendor_organization)
    modes = rows(
        services.database, "select mode from softpro.sync_logs where sync_type = 'WEBHOOK' order by started_at"
    )
    assert [row["mode"] for row in modes] == ["incremental", "records"]


def test_a_scheduled_sync_settles_what_it_lists(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    [order_id] = sandbox.change(vendor_organization)
    carrying = add_event(services.database, acme, order_id, carries=updated_at(sandbox, vendor_organization, order_id))
    plain = add_event(services.database, acme, order_id)

    sync(services, acme)

    assert outcomes(services.database) == {carrying: "FETCHED", plain: None}, "the lag of the other is not over"


def test_a_404_is_believed_when_repeated_after_the_lag_and_the_row_is_deleted_softly(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    order_id = sorted(sandbox.records(vendor_organization))[0]
    sandbox.delete(vendor_organization, order_id)
    event = add_event(services.database, acme, order_id, "TRANSACTION_DELETED")

    assert process_events(services).left == 1
    assert one(services.database, "select count(*) from roi.transactions where deleted_at is not null") == 0
    backdate(services.database, LAG)
    assert process_events(services) == DrainResult(settled=1, left=0, failed=0, requests=1)

    assert outcomes(services.database) == {event: "DELETED"}
    gone = rows(services.database, "select softpro_order_id from roi.transactions where deleted_at is not null")
    assert [row["softpro_order_id"] for row in gone] == [order_id]
    assert one(services.database, "select changed_fields from roi.transactions_history") == ["deleted_at"]
    assert sync(services, acme).records_processed == 0


def test_a_new_record_whose_first_fetch_was_a_404_is_not_deleted(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    event = add_event(services.database, acme, "ord-new", "TRANSACTION_CREATED")
    assert process_events(services).left == 1
    assert events(services.database)[event]["missing_at"] is not None

    sandbox.put(vendor_organization, record("ord-new", "2026-01-01T00:00:00.000Z"))
    backdate(services.database, LAG)
    process_events(services)

    assert outcomes(services.database) == {event: "FETCHED"}
    assert one(services.database, "select count(*) from roi.transactions where softpro_order_id = 'ord-new'") == 1


def test_events_of_records_that_neither_side_has_are_settled_as_gone(acme: Integration, services: Services) -> None:
    event = add_event(services.database, acme, "ord-none", seconds_ago=LAG)
    process_events(services)
    backdate(services.database, LAG)

    assert process_events(services).settled == 1
    assert outcomes(services.database) == {event: "GONE"}


def test_a_mass_delete_waits_for_a_user(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    doomed = sorted(sandbox.records(vendor_organization))[:21]
    for order_id in doomed:
        sandbox.delete(vendor_organization, order_id)
        add_event(services.database, acme, order_id, "TRANSACTION_DELETED", seconds_ago=LAG)
    execute(services.database, "update softpro.webhook_events set missing_at = received_at")
    execute(services.database, "update raw.records set last_seen_at = last_seen_at - interval '1 hour'")

    assert process_events(services) == DrainResult(settled=0, left=0, failed=21, requests=22)

    assert one(services.database, "select count(*) from roi.transactions where deleted_at is not null") == 0
    [why] = {event["processing_error"] for event in events(services.database).values()}
    assert why.endswith("run a reconcile, which asks for approval (python -m softpro reconcile acme)")


def test_events_of_unsynced_entities_are_settled_with_a_reason(acme: Integration, services: Services) -> None:
    document = add_event(services.database, acme, "doc-1", "DOCUMENT_UPLOADED", entity_type="DOCUMENT")
    execute(services.database, "update softpro.integrations set sync_contacts = false")
    contact = add_event(services.database, acme, "con-1", "CONTACT_UPDATED", entity_type="CONTACT")

    assert process_events(services).requests == 0

    said = {event_id: (row["outcome"], row["processing_error"]) for event_id, row in events(services.database).items()}
    assert said == {
        document: ("IGNORED", "The sync of documents is switched off"),
        contact: ("IGNORED", "The sync of contacts is switched off"),
    }


def test_an_error_is_retried_with_backoff_then_failed_and_a_later_list_still_settles_it(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    broken, good = sorted(sandbox.records(vendor_organization))[:2]
    execute(services.database, "update softpro.webhook_events set max_attempts = 5")
    bad = add_event(services.database, acme, "..", seconds_ago=LAG)  # an invalid id that cannot be requested
    fine = add_event(services.database, acme, good, seconds_ago=LAG)
    waits = []
    for _ in range(5):
        process_events(services)
        row = events(services.database)[bad]
        waits.append((row["status"], row["attempts"], row["next_retry_at"] is not None))
        backdate(services.database, 3600)

    assert waits == [("RETRYING", n, True) for n in range(1, 5)] + [("FAILED", 5, False)]
    assert "can't be an id" in events(services.database)[bad]["processing_error"]
    assert outcomes(services.database) == {bad: None, fine: "FETCHED"}
    execute(services.database, "update softpro.webhook_events set entity_id = %s where event_id = %s", broken, bad)
    sandbox.put(vendor_organization, record(broken, "2099-01-01T00:00:00.000Z"))
    sync(services, acme)
    assert outcomes(services.database)[bad] == "FETCHED"


def test_a_tenant_that_is_not_connected_waits_and_blocks_no_other(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str, connected: Connected
) -> None:
    other = connected("other", sandbox.unused_organization())
    sync(services, other)
    [order_id] = sandbox.change(vendor_organization)
    mine = add_event(services.database, acme, order_id, seconds_ago=LAG)
    theirs = add_event(services.database, other, order_id, seconds_ago=LAG)
    execute(services.database, "update softpro.integrations set status = 'EXPIRED' where organization_id = 'other'")

    process_events(services)

    assert outcomes(services.database) == {mine: "FETCHED", theirs: None}
    assert events(services.database)[theirs]["attempts"] == 0
    execute(services.database, "update softpro.integrations set status = 'CONNECTED' where organization_id = 'other'")
    backdate(services.database, LAG)
    process_events(services)
    backdate(services.database, LAG)
    process_events(services)
    assert outcomes(services.database) == {mine: "FETCHED", theirs: "FETCHED"}


def test_a_held_batch_keeps_what_webhooks_fetch_pending(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    execute(
        services.database,
        """
        insert into softpro.holds (integration_id, organization_id, entity_type, log_id, findings, records)
        select id, organization_id, 'TRANSACTION', gen_random_uuid(), '[]', 1 from softpro.integrations
        """,
    )
    [order_id] = sandbox.change(vendor_organization)
    add_event(services.database, acme, order_id, seconds_ago=LAG)

    assert process_events(services).settled == 1

    assert one(services.database, "select entity_id from raw.pending") == order_id
    [log] = rows(services.database, "select * from softpro.sync_logs where sync_type = 'WEBHOOK'")
    assert (log["status"], log["records_processed"]) == ("COMPLETED", 0)
    assert "held batch" in log["reason"]


def test_one_drain_at_a_time(acme: Integration, services: Services) -> None:
    with services.database.connect() as session:
        assert locks.try_lock(session, Lock.INBOX)
        assert process_events(services) == DrainResult(busy=True)
    assert process_events(services) == DrainResult()


def test_a_drain_that_died_is_closed_by_the_next_which_loads_what_it_had_landed(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    from softpro.entities import EntityType, Mode, SyncType
    from softpro.runs import pipeline

    [order_id] = sandbox.change(vendor_organization)
    add_event(services.database, acme, order_id, seconds_ago=LAG)
    with services.database.connect() as connection:
        current = integrations.get(connection, acme.id)
    died = pipeline.begin(
        services.database,
        current,
        EntityType.TRANSACTION,
        mode=Mode.RECORDS,
        sync_type=SyncType.WEBHOOK,
        run_id="test__died",
        records=[order_id],
    )
    pipeline.fetch(services, died)
    [other] = sandbox.change(vendor_organization)
    add_event(services.database, acme, other, seconds_ago=LAG)

    process_events(services)

    assert one(services.database, "select status from softpro.sync_logs where id = %s", died.log_id) == "FAILED"
    assert one(services.database, "select count(*) from raw.pending") == 0
    assert agree(services.database, sandbox, vendor_organization)
