"""Hold the batch when SoftPro's list is much shorter than the table, until a user decides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.entities import Mode
from softpro.runs import pipeline
from softpro.services import Services

from ..support.databases import one, rows
from ..support.fixture_types import StartSandbox
from ..support.held_batches import CONTACT, PENDING, ROW_COUNT, SWEEP_TOTAL, Interrupted, approve, list_holds, reject
from ..support.product import begin, connect_acme, sync
from ..support.sandbox import Sandbox


@pytest.fixture
def many(start_sandbox: StartSandbox, database: Database) -> tuple[Services, Integration, Sandbox]:
    """Return an organization with 1,200 transactions, loaded once."""
    sandbox = start_sandbox(transactions=1_200, contacts=0)
    services, acme = connect_acme(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="200")
    assert sync(services, acme).records_inserted == 1_200
    return services, acme, sandbox


def delete_at_vendor(sandbox: Sandbox, count: int) -> None:
    (organization,) = sandbox.organizations
    for record_id in sorted(sandbox.records(organization))[:count]:
        sandbox.delete(organization, record_id)


def test_a_full_sync_of_a_list_that_shrank_by_more_than_the_share_is_held_until_a_user_approves(
    many: tuple[Services, Integration, Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    services, acme, sandbox = many
    database = services.database
    delete_at_vendor(sandbox, 241)

    log = sync(services, acme, mode=Mode.FULL)

    (hold,) = list_holds(services, acme)
    message = "SoftPro's list holds 959 transactions, the table 1200: a fall of more than 20 %"
    finding = {"column": None, "rule": ROW_COUNT, "message": message}
    assert hold.findings == [{**finding, "rows": 1_200, "fallen": 241}]
    assert hold.as_json()["findings"] == [finding]
    assert (log.status, log.records_processed) == ("FAILED", 0)
    assert message in str(log.error_message)
    assert (one(database, PENDING), one(database, SWEEP_TOTAL)) == (959, 959)

    approve(services, acme, hold)
    log = sync(services, acme)

    assert (log.status, log.records_processed) == ("COMPLETED", 959)
    assert list_holds(services, acme)[0].status == "LOADED"
    assert one(database, SWEEP_TOTAL) is None
    assert one(database, "select count(*) from roi.transactions where deleted_at is null") == 1_200
    monkeypatch.setenv("SOFTPRO_ROW_COUNT_FALL_PERCENT", "25")
    relaxed = replace(services)  # reads the settings again
    assert sync(relaxed, acme, mode=Mode.FULL).status == "COMPLETED"
    assert one(database, SWEEP_TOTAL) is None


@pytest.mark.parametrize(("more", "status"), [(120, "LOADED"), (121, "WAITING")])
def test_a_list_that_shrinks_much_further_than_approved_is_another_hold(
    many: tuple[Services, Integration, Sandbox], more: int, status: str
) -> None:
    services, acme, sandbox = many
    delete_at_vendor(sandbox, 241)
    sync(services, acme, mode=Mode.FULL)
    (hold,) = list_holds(services, acme)
    approve(services, acme, hold)
    delete_at_vendor(sandbox, more)

    log = sync(services, acme, mode=Mode.FULL)

    newest, *older = list_holds(services, acme)
    assert newest.status == status
    if status == "WAITING":
        assert (log.status, [each.status for each in older]) == ("FAILED", ["CLEARED"])
        approve(services, acme, newest)
        assert sync(services, acme).status == "COMPLETED"
        assert list_holds(services, acme)[0].status == "LOADED"


def test_a_list_that_shrank_by_no_more_than_the_share_is_loaded(many: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, sandbox = many
    delete_at_vendor(sandbox, 240)
    assert sync(services, acme, mode=Mode.FULL).status == "COMPLETED"
    assert list_holds(services, acme) == []
    assert rows(
        services.database,
        "select records, unexpected, success, level, column_name from softpro.check_results where expectation = %s",
        ROW_COUNT,
    ) == [{"records": 1_200, "unexpected": 0, "success": True, "level": "batch", "column_name": None}]


def test_the_list_length_is_that_of_the_first_page_of_the_sweep(
    many: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, sandbox = many
    database = services.database
    delete_at_vendor(sandbox, 241)
    run = begin(services, acme, mode=Mode.FULL)
    assert pipeline.extract(services, run, seconds=0).backlog
    assert one(database, SWEEP_TOTAL) == 959
    pipeline.fail(database, run, Interrupted())
    delete_at_vendor(sandbox, 1)

    assert sync(services, acme).status == "FAILED"
    (hold,) = list_holds(services, acme)
    assert "list holds 959 transactions" in hold.summary
    reject(services, acme, hold)

    assert (one(database, PENDING), one(database, SWEEP_TOTAL)) == (0, None)
    assert sync(services, acme).status == "COMPLETED"
    assert [hold.status for hold in list_holds(services, acme)] == ["REJECTED"]


def test_a_full_sync_that_is_applied_in_parts_is_held_at_the_first_of_them(
    many: tuple[Services, Integration, Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    services, acme, sandbox = many
    monkeypatch.setattr("softpro.runs.background_load.MIN_PART", 100)
    delete_at_vendor(sandbox, 300)
    log = sync(services, acme, mode=Mode.FULL)
    assert (log.status, log.records_processed) == ("FAILED", 0)
    (hold,) = list_holds(services, acme)
    approve(services, acme, hold)
    log = sync(services, acme)
    assert log.status == "COMPLETED"
    assert one(services.database, PENDING) == 0
    assert list_holds(services, acme)[0].status == "LOADED"


def test_a_list_that_is_empty_is_held_although_it_brings_no_batch(many: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, sandbox = many
    delete_at_vendor(sandbox, 1_200)
    assert sync(services, acme, mode=Mode.FULL).status == "FAILED"
    (hold,) = list_holds(services, acme)
    assert (hold.records, hold.about) == (0, {(None, ROW_COUNT)})
    approve(services, acme, hold)
    assert sync(services, acme).status == "COMPLETED"
    assert list_holds(services, acme)[0].status == "LOADED"
    assert one(services.database, SWEEP_TOTAL) is None


def test_a_small_table_may_lose_any_share(loaded: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, sandbox = loaded
    (organization,) = sandbox.organizations
    for record_id in sorted(sandbox.records(organization, "CONTACT"))[:100]:
        sandbox.delete(organization, record_id, "CONTACT")
    assert sync(services, acme, CONTACT, Mode.FULL).status == "COMPLETED"
