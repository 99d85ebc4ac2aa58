"""Replay the records that a wrong mapping quarantined: all of them load, without a call to SoftPro.

SOFTPRO_TEST_REPLAY_RECORDS is the number of records, at least 200.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

from softpro.db.database import Database
from softpro.entities import EntityType, SyncType
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.runs import sync as runs_sync

from ..support.database_state import inconsistent_logs, leftovers
from ..support.databases import one
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import StartSandbox
from ..support.product import connect_acme, quality_settings, sync

RECORDS = int(os.environ.get("SOFTPRO_TEST_REPLAY_RECORDS", "200"))
TRANSACTION = EntityType.TRANSACTION
CASES = "select count(*) from softpro.quarantine where resolution is not distinct from %s"


def test_all_that_a_wrong_mapping_quarantined_loads_by_a_replay_without_a_call(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(transactions=RECORDS, contacts=0)
    (organization,) = sandbox.organizations
    services, acme = connect_acme(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="200")
    right = default_mappings(TRANSACTION)
    wrong = [
        replace(mapping, softpro_field="orderName", required=True)
        if mapping.roi_systems_field == "transaction_number"
        else mapping
        for mapping in right
    ]
    with database.connect() as connection:
        repository.replace(connection, acme.id, "acme", wrong, "the test")
    assert sync(services, acme).records_failed == RECORDS
    assert one(database, CASES, None) == RECORDS
    calls = sandbox.requests_of(organization)

    with database.connect() as connection:
        repository.replace(connection, acme.id, "acme", right, "the test")
    began = time.monotonic()
    log = runs_sync.replay(
        database, acme, TRANSACTION, sync_type=SyncType.MANUAL, run_id="replay", quality=quality_settings()
    )

    print(f"{RECORDS} records replayed in {time.monotonic() - began:.1f} s")
    assert (log.status, log.records_processed, log.records_failed) == ("COMPLETED", RECORDS, 0)
    assert (log.records_inserted, log.api_requests) == (RECORDS, 0)
    assert sandbox.requests_of(organization) == calls
    assert one(database, CASES, "LOADED") == RECORDS
    assert actual_rows(database, "acme") == expected_rows(sandbox.records(organization))
    assert leftovers(database) == {}
    assert inconsistent_logs(database) == []
