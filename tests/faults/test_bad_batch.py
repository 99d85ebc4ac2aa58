"""Quarantine the bad fifth of a batch with all its reasons and load the rest (promise 4).

SOFTPRO_TEST_BATCH_RECORDS is the number of records, at least 1000.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from softpro.db.database import Database
from softpro.mapping import repository

from ..support.bad_transactions import BadTransaction, bad_transactions, strict_mappings
from ..support.database_state import inconsistent_logs, leftovers
from ..support.databases import one, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import StartSandbox
from ..support.product import connect_acme, sync

RECORDS = int(os.environ.get("SOFTPRO_TEST_BATCH_RECORDS", "1000"))
SEED = 360
BAD = RECORDS // 5
CASES = "select * from softpro.quarantine where resolved_at is null"


def test_the_bad_fifth_of_a_batch_is_quarantined_with_all_reasons_and_loads_once_corrected(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(transactions=RECORDS - BAD, contacts=0)
    (organization,) = sandbox.organizations
    services, acme = connect_acme(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="200")
    with database.connect() as connection:
        repository.replace(connection, acme.id, "acme", strict_mappings(), "the test")
    good = sandbox.records(organization)
    bad = bad_transactions(BAD, random.Random(SEED))
    began = time.monotonic()
    kept_under = [sandbox.put(organization, each.payload) for each in bad]
    print(f"seed {SEED}: {BAD} bad records of {RECORDS} put in within {time.monotonic() - began:.1f} s")

    log = sync(services, acme)

    print(f"batch: {log.status} in {log.duration} ms")
    assert (log.status, log.error_message) == ("PARTIAL_SUCCESS", None)
    assert (log.records_fetched, log.records_processed, log.records_failed) == (RECORDS, RECORDS, BAD)
    assert (log.records_inserted, log.records_updated) == (RECORDS - BAD, 0)
    assert actual_rows(database, "acme") == expected_rows(good)
    assert_each_has_its_case(database, bad)
    assert leftovers(database) == {}

    for each, record_id in zip(bad, kept_under, strict=True):
        if each.id is None:
            sandbox.delete(organization, record_id)
        sandbox.put(organization, each.corrected(datetime.now(UTC)))
    log = sync(services, acme)

    print(f"corrected: {log.status} in {log.duration} ms")
    assert (log.status, log.records_processed, log.records_failed) == ("COMPLETED", BAD, 0)
    assert (log.records_inserted, log.records_updated) == (BAD, 0)
    assert actual_rows(database, "acme") == expected_rows(sandbox.records(organization))
    # A corrected record cannot be matched to a case without an id, so such a case stays open.
    nameless = [each.payload for each in bad if each.id is None]
    assert sorted(case["payload"] for case in rows(database, CASES)) == sorted(nameless)
    assert one(database, "select count(*) from softpro.quarantine") == BAD
    assert leftovers(database) == {}
    assert inconsistent_logs(database) == []


def assert_each_has_its_case(database: Database, bad: list[BadTransaction]) -> None:
    """Assert that exactly these records are in quarantine, each with its exact reasons and the vendor's payload."""
    cases = rows(database, CASES)
    by_id = {case["entity_id"]: case for case in cases if case["entity_id"] is not None}
    nameless = {case["payload"]: case for case in cases if case["entity_id"] is None}
    assert len(cases) == len(by_id) + len(nameless) == len(bad)
    given: Counter[tuple[str, str | None]] = Counter()
    for each in bad:
        case = nameless[each.payload] if each.id is None else by_id[each.id]
        found = [(reason["rule"], reason["column"]) for reason in case["reasons"]]
        assert sorted(found, key=str) == sorted(each.reasons, key=str), each
        assert all(reason["message"] for reason in case["reasons"])
        if each.landed:
            assert exactly(case["payload"]) == exactly(each.payload)
        else:
            assert case["payload"] == each.payload
        given.update(each.reasons)
    several = Counter(len(each.reasons) for each in bad)
    print(f"{len(cases)} cases by their number of reasons: {dict(several)}")
    for (rule, column), count in sorted(given.items(), key=str):
        print(f"  {rule} {column or ''}: {count}")


def exactly(payload: bytes) -> Any:
    """Parse JSON with exact numbers of any length."""
    return json.loads(payload, parse_int=Decimal, parse_float=Decimal)
