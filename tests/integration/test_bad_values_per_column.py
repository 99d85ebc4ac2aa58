"""Reject a bad value in every column of every entity, one at a time and all together (promise 4)."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from softpro.db.database import Database
from softpro.entities import EntityType
from softpro.mapping import repository
from softpro.mapping.columns import COLUMNS

from ..support.bad_transactions import to_json
from ..support.bad_values import all_together, good_record, mappings, one_at_a_time
from ..support.database_state import inconsistent_logs, leftovers
from ..support.databases import one, rows
from ..support.fixture_types import StartSandbox
from ..support.product import connect_acme, sync

GOOD = 120
"""Enough records for the checks of a whole batch."""


@pytest.mark.parametrize("entity", EntityType)
def test_each_bad_value_has_the_right_reason_and_blocks_no_other_record(
    start_sandbox: StartSandbox, database: Database, entity: EntityType
) -> None:
    sandbox = start_sandbox(transactions=0, contacts=0)
    (organization,) = sandbox.organizations
    services, acme = connect_acme(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="200")
    with database.connect() as connection:
        repository.replace(connection, acme.id, "acme", mappings(entity), "the test")
    bad = [*one_at_a_time(entity), *all_together(entity)]
    named = {column for each in bad for _, column in each.reasons}
    assert named == {*COLUMNS[entity], "custom.word", "custom.amount", None}
    for each in bad:
        sandbox.put(organization, each.payload, entity.value)
    for number in range(GOOD):
        sandbox.put(organization, to_json(good_record(entity, f"good {number}")).encode(), entity.value)

    log = sync(services, acme, entity)

    cases = {case["entity_id"]: case for case in rows(database, "select * from softpro.quarantine")}
    assert cases.keys() == {each.id for each in bad}
    for each in bad:
        case = cases[each.id]
        found = [(reason["rule"], reason["column"]) for reason in case["reasons"]]
        assert sorted(found, key=str) == sorted(each.reasons, key=str), (each, case["reasons"])
        assert all(reason["message"] for reason in case["reasons"])
        assert (case["entity_type"], case["organization_id"], case["log_id"]) == (entity.value, "acme", log.id)
        if each.landed:
            assert exactly(case["payload"]) == exactly(each.payload)
        else:
            assert case["payload"] == each.payload
    assert (log.status, log.error_message) == ("PARTIAL_SUCCESS", None)
    assert (log.records_fetched, log.records_processed, log.records_failed) == (GOOD + len(bad),) * 2 + (len(bad),)
    assert (log.records_inserted, log.records_updated) == (GOOD, 0)
    loaded = rows(database, f"select {entity.key} as id from roi.{entity.table}")
    assert {row["id"] for row in loaded} == {f"good {number}" for number in range(GOOD)}
    assert one(database, f"select min(custom ->> 'word') from roi.{entity.table}") == "Yes"
    assert rows(database, "select from softpro.holds") == []
    assert leftovers(database) == {}
    assert inconsistent_logs(database) == []
    print(f"{entity.table}: {len(bad)} bad records with {sum(len(each.reasons) for each in bad)} reasons")


def exactly(payload: bytes) -> Any:
    """Parse JSON with exact numbers of any length."""
    return json.loads(payload, parse_int=Decimal, parse_float=Decimal)
