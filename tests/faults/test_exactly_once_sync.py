"""Sync under many faults at once: nothing is skipped, doubled or left behind (promises 1, 2 and 3).

Three records change with every served page, changes surface up to 5 s late, three records in ten share one
`updatedAt`, and a fifth of the calls fail. A run may fail after too many failed calls in a row; the next one resumes.

SOFTPRO_TEST_EXACT_RECORDS is the number of transactions, and of contacts, at least 1000.
"""

from __future__ import annotations

import os
import time
from collections import Counter

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType
from softpro.services import Services

from ..support.database_state import inconsistent_logs, leftovers
from ..support.databases import one, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import StartSandbox
from ..support.product import connect_acme, sync
from ..support.sandbox import Sandbox

RECORDS = int(os.environ.get("SOFTPRO_TEST_EXACT_RECORDS", "1000"))
SEED = 360
PAGE, ROUNDS, LAG = 20, 2 if RECORDS <= 1000 else 10, 5
TIED, TIED_AGO = RECORDS * 3 // 10, 30 * 86_400
MOST_FAILURES = 30  # consecutive failed runs of a stream
# All faults of a read except slow ones. A 429 is rare, because each one makes every caller wait for a second.
FAULTS = {
    "error500": 0.03,
    "error503": 0.03,
    "error429": 0.01,
    "proxyHtml": 0.03,
    "emptyBody": 0.025,
    "truncatedBody": 0.025,
    "wrongJson": 0.025,
    "resetConnection": 0.025,
}


def test_the_tables_end_equal_to_a_vendor_that_changes_ties_surfaces_late_and_fails(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(transactions=RECORDS, contacts=RECORDS)
    (organization,) = sandbox.organizations
    services, acme = connect_acme(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE=str(PAGE), SOFTPRO_MAX_RETRIES="2")
    tie_timestamps(sandbox, organization)
    asked_before = sandbox.requests_of(organization)
    sandbox.switch(lag=LAG, changeWhilePaging=3, **FAULTS, faultSeed=SEED)

    logs: list[SyncLog] = []
    for number in range(1 + ROUNDS):
        for entity_type in EntityType:
            logs += run_until_success(services, acme, entity_type)
            if number == 0:
                sandbox.change(organization, entity_type.value, TIED // 3, sameTimestamp=True)
    sandbox.switch(changeWhilePaging=0)
    time.sleep(LAG + 0.5)
    for entity_type in EntityType:
        logs += run_until_success(services, acme, entity_type)
    requests, faults = sandbox.requests_of(organization) - asked_before, sandbox.stats()["faults"]
    report(logs, requests, faults)

    for entity_type in EntityType:
        records = sandbox.records(organization, entity_type.value)
        assert len(records) == RECORDS
        assert actual_rows(database, "acme", entity_type.value) == expected_rows(records, entity_type.value)
        assert_accounted_for(database, entity_type)
        assert [log.records_processed for log in run_until_success(services, acme, entity_type)][-1:] == [0]
    assert one(database, "select count(*) from softpro.quarantine") == 0
    assert leftovers(database) == {}
    assert inconsistent_logs(database) == []
    assert sum(log.api_requests for log in logs) == requests
    assert faults.keys() == FAULTS.keys()
    assert requests / 8 < sum(faults.values()) < requests / 3


def tie_timestamps(sandbox: Sandbox, organization: str) -> None:
    """Change records of both entity types at one moment, a month ago by the vendor's clock."""
    sandbox.switch(clockSkewSeconds=-TIED_AGO)
    for entity_type in EntityType:
        sandbox.change(organization, entity_type.value, TIED, sameTimestamp=True)
        records = sandbox.records(organization, entity_type.value).values()
        ((_, most),) = Counter(record["updatedAt"] for record in records).most_common(1)
        assert most >= TIED
    sandbox.switch(clockSkewSeconds=0)


def run_until_success(services: Services, acme: Integration, entity_type: EntityType) -> list[SyncLog]:
    """Run until one run succeeds, and return the logs of all runs."""
    logs = [sync(services, acme, entity_type)]
    while not logs[-1].succeeded:
        assert len(logs) <= MOST_FAILURES, logs[-1].error_message
        logs.append(sync(services, acme, entity_type))
    return logs


def assert_accounted_for(database: Database, entity_type: EntityType) -> None:
    """Assert that each record was inserted once, and that history and counts match what was fetched."""
    table = entity_type.table
    (sums,) = rows(
        database,
        """
        select sum(records_fetched)::int as fetched, sum(records_processed)::int as processed,
               sum(records_failed)::int as failed, sum(records_inserted)::int as inserted,
               sum(records_updated)::int as updated
        from softpro.sync_logs
        where entity_type = %s
        """,
        entity_type.value,
    )
    versions = one(database, f"select count(*) from roi.{table}_history")
    print(f"{table}: {sums}, {versions} versions in the history")
    assert (sums["inserted"], sums["updated"], sums["failed"]) == (RECORDS, versions, 0)
    assert sums["fetched"] >= sums["processed"] >= sums["inserted"] + sums["updated"]


def report(logs: list[SyncLog], requests: int, faults: dict[str, int]) -> None:
    failed = Counter(log.error_message for log in logs if not log.succeeded)
    print(
        f"seed {SEED}, {RECORDS} of each kind: {len(logs)} runs, {failed.total()} of them failed; {requests} requests"
    )
    print(f"faults: {faults}")
    for why, times in failed.items():
        print(f"failed {times} times: {why}")
