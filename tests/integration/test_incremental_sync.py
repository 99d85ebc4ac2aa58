"""Sync again: changes arrive, and nothing else is touched (promises 1 and 2)."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from softpro.db.integrations import Integration
from softpro.entities import EntityType, Mode
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.runs import pipeline
from softpro.services import Services

from ..support.databases import dump, one, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import Connected
from ..support.product import begin, command, quality_settings, sync
from ..support.sandbox import Sandbox


@pytest.fixture
def acme(connected: Connected, services: Services) -> Integration:
    """Connect and load once."""
    integration = connected("acme")
    assert sync(services, integration).status == "COMPLETED"
    return integration


def test_a_run_without_changes_asks_once_and_rewrites_nothing(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    before, asked = dump(services.database, versions=True), sandbox.requests_of(vendor_organization)
    position = "select updated_from, page_offset, last_updated_at, last_id, backlog from softpro.cursors"
    position_before = rows(services.database, position)
    log = sync(services, acme)
    assert rows(services.database, position) == position_before
    assert (log.status, log.records_fetched, log.records_processed) == ("COMPLETED", 0, 0)
    assert (log.api_requests, sandbox.requests_of(vendor_organization) - asked) == (1, 1)
    after = dump(services.database, versions=True)
    assert {name for name in after if after[name] != before[name]} == {
        "softpro.cursors",
        "softpro.integrations",
        "softpro.leases",
        "softpro.sync_logs",
    }


def test_changes_arrive_and_nothing_else_is_written(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    untouched = dump(services.database, versions=True)["roi.transactions"]
    changed = sandbox.change(vendor_organization, count=7, sameTimestamp=True)
    log = sync(services, acme)
    assert (log.records_fetched, log.records_updated, log.records_inserted) == (7, 7, 0)
    expected = expected_rows(sandbox.records(vendor_organization))
    assert actual_rows(services.database, "acme") == expected
    kept = set(dump(services.database, versions=True)["roi.transactions"]) & set(untouched)
    assert len(kept) == 45 - len(set(changed))


def test_a_replaced_version_goes_to_history_with_what_changed(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    order_id, record = next(iter(sandbox.records(vendor_organization).items()))
    (before,) = rows(services.database, "select * from roi.transactions where softpro_order_id = %s", order_id)
    newer = {**record, "notes": "replaced", "purchasePrice": 123456.78, "updatedAt": "2035-01-01T00:00:00.000Z"}
    sandbox.put(vendor_organization, json.loads(json.dumps(newer, default=float)))
    assert sync(services, acme).records_updated == 1
    (old,) = rows(services.database, "select * from roi.transactions_history")
    assert set(old.pop("changed_fields")) == {"notes", "purchase_price", "softpro_updated_at"}
    valid_from, valid_to = old.pop("valid_from"), old.pop("valid_to")
    assert (old, valid_from) == (before, before["updated_at"])
    (now,) = rows(services.database, "select * from roi.transactions where softpro_order_id = %s", order_id)
    assert (now["id"], now["notes"], str(now["purchase_price"])) == (before["id"], "replaced", "123456.78")
    assert now["updated_at"] == valid_to
    versions = rows(services.database, "select notes from roi.transactions_versions where id = %s", now["id"])
    assert len(versions) == 2


def test_delta_finds_what_changed_without_its_timestamp_and_full_maps_everything_again(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    record = next(iter(sandbox.records(vendor_organization).values()))
    sandbox.put(vendor_organization, json.loads(json.dumps({**record, "notes": "silently"}, default=float)))
    newest = max(each["updatedAt"] for each in sandbox.records(vendor_organization).values())
    assert record["updatedAt"] < newest
    assert sync(services, acme).records_updated == 0
    delta = sync(services, acme, mode=Mode.DELTA)
    assert (delta.records_processed, delta.records_updated) == (1, 1)
    notes_from_number = [
        replace(mapping, softpro_field="orderNumber", direction="SOFTPRO_TO_ROI")
        if mapping.roi_systems_field == "notes"
        else mapping
        for mapping in default_mappings(EntityType.TRANSACTION)
    ]
    with services.database.connect() as connection:
        repository.replace(connection, acme.id, "acme", notes_from_number, "me")
    assert sync(services, acme, mode=Mode.DELTA).records_processed == 0
    full = sync(services, acme, mode=Mode.FULL)
    records = sandbox.records(vendor_organization).values()
    differing = sum(each.get("notes") != each.get("orderNumber") for each in records)
    assert (full.records_fetched, full.records_processed, full.records_updated) == (45, 45, differing)
    query = "select bool_and(notes is not distinct from transaction_number) from roi.transactions"
    assert one(services.database, query)


def test_an_interrupted_full_sweep_resumes_where_it_stopped(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    run = begin(services, acme, mode=Mode.FULL)
    first = pipeline.extract(services, run, seconds=0)
    assert (first.requests, first.fetched, first.backlog) == (1, 20, True)
    pipeline.fail(services.database, run, RuntimeError("interrupted"))
    log = sync(services, acme)
    assert log.status == "COMPLETED"
    assert log.records_processed == 45  # the whole list is mapped again, as the sweep's first run intended
    assert log.records_fetched == 25
    assert one(services.database, "select sweep_mode from softpro.cursors") is None


def test_nothing_is_fetched_again_that_a_crashed_run_had_landed(
    connected: Connected, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    integration = connected("acme")
    run = begin(services, integration)
    pipeline.extract(services, run, seconds=0)
    pipeline.fail(services.database, run, RuntimeError("interrupted"))
    log = sync(services, integration)
    assert (log.records_fetched, log.records_processed, log.records_inserted) == (25, 45, 45)
    assert actual_rows(services.database, "acme") == expected_rows(sandbox.records(vendor_organization))


def test_every_step_can_be_run_again(
    connected: Connected, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    integration = connected("acme")
    run = begin(services, integration)
    database = services.database
    for _ in range(2):
        pipeline.extract(services, run)
        pipeline.transform(database, run)
        pipeline.transform(database, run)
        checked = pipeline.check(database, run, quality_settings())
        assert pipeline.check(database, run, quality_settings()) == checked
        pipeline.load(database, run)
    assert pipeline.load(database, run).loaded == 0
    log = pipeline.finish(database, run)
    assert (log.status, log.records_processed, log.records_inserted) == ("COMPLETED", 45, 45)
    assert one(database, "select count(*) from roi.transactions_history") == 0
    assert actual_rows(database, "acme") == expected_rows(sandbox.records(vendor_organization))


def test_a_named_record_is_loaded_even_while_a_run_holds_the_stream(
    connected: Connected, services: Services, settings: dict[str, str], sandbox: Sandbox, vendor_organization: str
) -> None:
    integration = connected("acme")
    sync(services, integration)
    [changed] = sandbox.change(vendor_organization)
    same = next(order_id for order_id in sandbox.records(vendor_organization) if order_id != changed)
    begin(services, integration)
    before = sandbox.requests_of(vendor_organization)

    answer = command(settings, "sync", "acme", "--entity", "transactions", "--record", changed, "--record", same)

    assert (answer.code, sandbox.requests_of(vendor_organization) - before) == (0, 2), answer.err
    assert answer.out.startswith("transactions COMPLETED: 2 fetched, 2 loaded (0 new, 1 changed, 1 unchanged)")
    assert actual_rows(services.database, "acme") == expected_rows(sandbox.records(vendor_organization))
    unknown = command(settings, "sync", "acme", "--entity", "transactions", "--record", "ord-none", "--record", same)
    assert (unknown.code, "SoftPro has no transaction ord-none" in unknown.out + unknown.err) == (1, True)
    for wrong in (["--record", same], ["--record", same, "--entity", "transactions", "--mode", "full"]):
        refused = command(settings, "sync", "acme", *wrong)
        assert (refused.code, "--record requires --entity" in refused.err) == (2, True)
