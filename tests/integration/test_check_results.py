"""Store the results of the checks, once for each batch, however a run proceeds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.db.leases import Run
from softpro.entities import EntityType, Mode
from softpro.errors import BatchHeld
from softpro.quality import results
from softpro.runs import pipeline
from softpro.services import Services

from ..support.database_state import leftovers
from ..support.databases import execute, one, rows
from ..support.fixture_types import Connected, StartSandbox
from ..support.product import begin, connect_acme, quality_settings, sync
from ..support.sandbox import Sandbox

STATUS = "status", "expect_column_values_to_be_in_set"
PRICE = "purchase_price", "expect_column_values_to_be_between"
FOUND = """
select column_name, expectation, sum(records)::int as records, sum(unexpected)::int as unexpected,
       bool_and(success) as success, count(*) as rows
from softpro.check_results
group by 1, 2
"""


def found(database: Database) -> dict[tuple[str, str], tuple[int, int, bool, int]]:
    """Return records, unexpected, success and rows by column and expectation."""
    return {
        (row["column_name"], row["expectation"]): (row["records"], row["unexpected"], row["success"], row["rows"])
        for row in rows(database, FOUND)
    }


@pytest.fixture
def acme(connected: Connected, sandbox: Sandbox, vendor_organization: str) -> Integration:
    """Connect to 45 good transactions, one with a negative price and two with an unknown status."""
    head = {"orderType": "SALE", "createdAt": "2025-06-01T00:00:00.000Z", "updatedAt": "2025-06-01T00:00:00.000Z"}
    sandbox.put(vendor_organization, {"orderId": "negative", **head, "purchasePrice": -1})
    for number in range(2):
        sandbox.put(vendor_organization, {"orderId": f"odd {number}", **head, "status": "ON_THE_MOON"})
    return connected("acme")


@pytest.fixture
def odd(acme: Integration, sandbox: Sandbox, vendor_organization: str) -> int:
    """Return the number of transactions with an unknown status."""
    return unknown_statuses(sandbox, vendor_organization)


def unknown_statuses(sandbox: Sandbox, organization: str) -> int:
    known = {None, "OPENED", "IN_PROGRESS", "PENDING_CLOSING", "CLOSED", "CANCELLED", "ON_HOLD"}
    return sum(record.get("status") not in known for record in sandbox.records(organization).values())


def staged(services: Services, integration: Integration) -> Run:
    run = begin(services, integration)
    pipeline.extract(services, run)
    pipeline.transform(services.database, run)
    return run


def test_a_run_stores_the_result_of_each_expectation(services: Services, acme: Integration, odd: int) -> None:
    log = sync(services, acme)
    database = services.database
    assert log.warnings["status be_in_set"] == odd
    assert found(database)[STATUS] == (48, odd, False, 1)
    assert found(database)[PRICE] == (48, 1, False, 1)
    assert found(database)["loan_amount", "expect_column_values_to_be_between"] == (48, 0, True, 1)
    assert found(database)["softpro_order_id", "expect_column_values_to_be_unique"] == (48, 0, True, 1)
    (price,) = rows(
        database, "select * from softpro.check_results where column_name = 'purchase_price' and not success"
    )
    assert datetime.now(UTC).timestamp() - price.pop("checked_at").timestamp() < 60
    assert price == {
        "organization_id": "acme",
        "integration_id": acme.id,
        "entity_type": "TRANSACTION",
        "log_id": log.id,
        "expectation": "expect_column_values_to_be_between",
        "column_name": "purchase_price",
        "severity": "critical",
        "level": "row",
        "kwargs": {"min_value": 0, "max_value": 999999999999.99},
        "records": 48,
        "unexpected": 1,
        "success": False,
    }
    before = found(database)
    sync(services, acme)
    assert found(database) == before


def test_a_check_and_a_load_that_are_run_again_count_once(services: Services, acme: Integration, odd: int) -> None:
    run = staged(services, acme)
    database = services.database
    for _ in range(2):
        pipeline.check(database, run, quality_settings())
        assert found(database) == {}
    for _ in range(2):
        pipeline.load(database, run)
        assert found(database)[STATUS] == (48, odd, False, 1)
    assert pipeline.finish(database, run).warnings["status be_in_set"] == odd


def test_a_run_that_is_killed_between_check_and_load_counts_nothing_and_the_next_one_all(
    services: Services, acme: Integration, odd: int
) -> None:
    run = staged(services, acme)
    database = services.database
    pipeline.check(database, run, quality_settings())
    assert one(database, "select count(*) from staging.check_results") > 0
    execute(database, "update softpro.leases set expires_at = now() - interval '1 second', backend_pid = null")

    log = sync(services, acme)

    assert found(database)[STATUS] == (48, odd, False, 1)
    assert log.warnings["status be_in_set"] == odd
    assert rows(database, "select distinct log_id from softpro.check_results") == [{"log_id": log.id}]
    assert leftovers(database) == {}


def test_the_parts_of_a_run_are_added_up(start_sandbox: StartSandbox, database: Database) -> None:
    sandbox = start_sandbox(transactions=700, contacts=0)
    services, acme = connect_acme(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="100")
    run = begin(services, acme)
    for first in (True, False, False):
        pipeline.extract(services, run, seconds=0, first_slice=first)
        pipeline.apply(database, run, quality_settings())
    assert found(database)[STATUS][0] == 300 - 2  # a page overlaps the previous one
    pipeline.extract(services, run, first_slice=False)
    pipeline.apply(database, run, quality_settings())
    pipeline.finish(database, run)
    odd = unknown_statuses(sandbox, sandbox.organizations[0])
    assert found(database)[STATUS] == (700, odd, not odd, 1)


def test_the_findings_that_hold_a_batch_are_stored_once(services: Services, acme: Integration, odd: int) -> None:
    run = staged(services, acme)
    database = services.database
    execute(
        database,
        "insert into staging.transactions select * from staging.transactions where softpro_order_id = 'negative'",
    )
    for _ in range(2):  # as a task that is retried
        with pytest.raises(BatchHeld):
            pipeline.check(database, run, quality_settings())
        assert found(database)["softpro_order_id", "expect_column_values_to_be_unique"] == (49, 2, False, 1)
        assert found(database)[STATUS] == (49, odd, False, 1)


def test_analysts_see_each_day_and_why_records_are_in_quarantine(
    services: Services, acme: Integration, odd: int
) -> None:
    log = sync(services, acme)
    sync(services, acme, mode=Mode.FULL)
    database = services.database
    daily: list[dict[str, Any]] = rows(
        database, "select * from analytics.quality_daily where organization_id = 'acme' and column_name = 'status'"
    )
    assert daily == [
        {
            "organization_id": "acme",
            "entity_type": "TRANSACTION",
            "day": datetime.now(UTC).date(),
            "expectation": "expect_column_values_to_be_in_set",
            "column_name": "status",
            "severity": "warning",
            "level": "row",
            "runs": 2,
            "records": 96,
            "unexpected": 2 * odd,
            "unexpected_share": daily[0]["unexpected_share"],
        }
    ]
    assert round(float(daily[0]["unexpected_share"]), 5) == round(2 * odd / 96, 5)
    case = one(database, "select created_at from softpro.quarantine where log_id = %s or true", log.id)
    assert rows(database, "select * from analytics.quarantine_reasons") == [
        {
            "organization_id": "acme",
            "entity_type": "TRANSACTION",
            "column_name": "purchase_price",
            "rule": "expect_column_values_to_be_between",
            "open_cases": 1,
            "since": case,
        }
    ]


def test_results_that_are_too_old_are_deleted(services: Services, acme: Integration) -> None:
    sync(services, acme)
    database = services.database
    all_of_them = one(database, "select count(*) from softpro.check_results")
    execute(
        database,
        "update softpro.check_results set checked_at = now() - interval '401 days' where column_name = 'status'",
    )
    with database.connect() as connection:
        assert results.purge(connection, 400) == 1
    assert one(database, "select count(*) from softpro.check_results") == all_of_them - 1


def test_an_unlikely_record_of_a_contact_counts_for_contacts_alone(
    services: Services, acme: Integration, sandbox: Sandbox, vendor_organization: str
) -> None:
    sync(services, acme, EntityType.CONTACT)
    assert {row["entity_type"] for row in rows(services.database, "select entity_type from softpro.check_results")} == {
        "CONTACT"
    }
