"""Sync without changes: one request, no rewritten row, and no import of the checks (promise 2).

SOFTPRO_TEST_NO_CHANGE_RECORDS is the number of transactions, and of contacts, at least 300.
"""

from __future__ import annotations

import os
import time
from collections import Counter

from softpro.db.database import Database
from softpro.entities import EntityType

from ..support.database_state import leftovers
from ..support.databases import dump, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import StartSandbox
from ..support.product import CommandResult, connect_acme, environment, fresh_command

RECORDS = int(os.environ.get("SOFTPRO_TEST_NO_CHANGE_RECORDS", "300"))
PAGE = 20 if RECORDS <= 1000 else 200
LAG_SECONDS = 5
# Python reports on stderr what it imports and how long that takes.
PROFILE_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}
HEAVY = {"great_expectations", "pandas", "alembic", "scipy"}
CONTROL = {"softpro.cursors", "softpro.integrations", "softpro.leases", "softpro.sync_logs"}
NEWEST_LOGS = """
select distinct on (entity_type) entity_type, status, records_fetched, records_processed, api_requests
from softpro.sync_logs
order by entity_type, started_at desc
"""


def test_a_run_without_changes_asks_once_and_rewrites_and_imports_nothing(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(transactions=RECORDS, contacts=RECORDS)
    (organization,) = sandbox.organizations
    connect_acme(database, sandbox)
    settings = environment(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE=str(PAGE)) | PROFILE_IMPORTS
    # The newest contacts changed one by one. Two pages of transactions changed at one moment.
    sandbox.change(organization, "CONTACT", 7)
    sandbox.change(organization, "TRANSACTION", 2 * PAGE, sameTimestamp=True)
    changed_at = time.monotonic()
    first = fresh_command(settings, "sync", "acme", timeout=600)
    assert first.code == 0, first.err
    # Changes with these timestamps may still surface until then, so the cursor stays before them.
    time.sleep(max(0, changed_at + LAG_SECONDS + 1.5 - time.monotonic()))
    assert fresh_command(settings, "sync", "acme").code == 0
    for entity_type in EntityType:
        records = sandbox.records(organization, entity_type.value)
        assert actual_rows(database, "acme", entity_type.value) == expected_rows(records, entity_type.value)

    before, since = dump(database, versions=True), time.time()
    again = fresh_command(settings, "sync", "acme")
    seconds, after = time.time() - since, dump(database, versions=True)

    calls = Counter(call["call"] for call in sandbox.calls(since))
    names = imported(again)
    print(f"{RECORDS} of each kind: {dict(calls)} in {seconds:.1f} s; {len(names)} packages imported, {again.out}")
    assert again.code == 0, again.err
    assert {name for name in after if after[name] != before[name]} == CONTROL
    assert leftovers(database) == {}
    assert calls.keys() == {"GET /contacts", "GET /transactions"}
    assert calls["GET /contacts"] == 1
    assert calls["GET /transactions"] <= 2  # two if a page ends within one moment
    assert rows(database, NEWEST_LOGS) == [
        {
            "entity_type": entity_type,
            "status": "COMPLETED",
            "records_fetched": 0,
            "records_processed": 0,
            "api_requests": calls[f"GET /{entity_type.table}"],
        }
        for entity_type in sorted(EntityType)
    ]
    assert "great_expectations" in imported(first)  # proves that an import would be visible
    assert names & HEAVY == set()


def imported(answer: CommandResult) -> set[str]:
    """Return the packages that a command imported, as its Python reported."""
    records = [line.split("|") for line in answer.err.splitlines() if line.startswith("import time:")]
    return {name.strip().partition(".")[0] for _, _, name in records[1:]}
