"""Push many records: each is created once, an edit takes one or two requests, and a bad record delays no other.

SOFTPRO_TEST_PUSH_CREATES and SOFTPRO_TEST_PUSH_EDITS are the numbers of created and edited records, at least 60 and
200.
"""

from __future__ import annotations

import os
import time
from collections import Counter

from softpro.db.database import Database
from softpro.entities import EntityType

from ..support.databases import execute, one, rows
from ..support.fixture_types import StartSandbox
from ..support.product import connect_acme, sync
from ..support.writeback import make_all_due, open_edits, run_push

CREATES = int(os.environ.get("SOFTPRO_TEST_PUSH_CREATES", "60"))
EDITS = int(os.environ.get("SOFTPRO_TEST_PUSH_EDITS", "200"))
SEED = 360
LIMIT = 6_000  # a minute
KIND = EntityType.CONTACT


def test_each_new_row_is_created_once_with_half_the_responses_lost(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(transactions=0, contacts=5)
    (organization,) = sandbox.organizations
    services, acme = connect_acme(database, sandbox)
    sync(services, acme, KIND)
    sandbox.switch(lostWrite=0.5, faultSeed=SEED)
    execute(
        database,
        """
        insert into roi.contacts (organization_id, contact_type, last_name)
        select 'acme', 'INDIVIDUAL', 'Made ' || n from generate_series(1, %s) n
        """,
        CREATES,
    )
    began, pushes = time.time(), 0
    while open_edits(database):
        run_push(services, acme, KIND)
        make_all_due(database)
        pushes += 1
        assert pushes < 30, rows(database, "select error, count(*) from softpro.pushes group by error")
    calls = Counter(call["call"].split()[0] for call in sandbox.calls(began))
    print(f"{CREATES} made in {pushes} pushes: {dict(calls)}")

    there = sandbox.records(organization, "CONTACT")
    assert len(there) == 5 + CREATES
    made = {
        row["id"]: row["key"] for row in rows(database, "select id::text, softpro_contact_id as key from roi.contacts")
    }
    ours = {
        record["customFields"]["roiSystemsId"]: key
        for key, record in there.items()
        if "roiSystemsId" in (record.get("customFields") or {})
    }
    assert len(ours) == CREATES
    assert {made[roi_id] for roi_id in ours} == set(ours.values())
    log = sync(services, acme, KIND)
    assert (log.records_inserted, one(database, "select count(*) from roi.contacts")) == (0, 5 + CREATES)


def test_each_edit_takes_two_requests_or_one_and_a_bad_record_delays_no_other(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sandbox = start_sandbox(transactions=0, contacts=EDITS, rateLimit=LIMIT)
    (organization,) = sandbox.organizations
    services, acme = connect_acme(
        database, sandbox, SOFTPRO_RATE_LIMIT_PER_MIN=str(LIMIT), SOFTPRO_SYNC_BATCH_SIZE="200"
    )
    sync(services, acme, KIND)
    for round_, requests in (("first", 2), ("second", 1)):
        # Edit twice: the edits of one record are one change.
        execute(database, "update roi.contacts set notes = 'before ' || %s", round_)
        execute(database, "update roi.contacts set notes = %s || ' ' || softpro_contact_id", round_)
        bad = one(database, "select min(softpro_contact_id) from roi.contacts") if round_ == "second" else None
        execute(database, "update roi.contacts set contact_type = 'NONE SUCH' where softpro_contact_id = %s", bad)
        began = time.monotonic()
        log = run_push(services, acme, KIND)
        print(f"{EDITS} {round_}: {log.api_requests} requests, {time.monotonic() - began:.1f} s")
        assert log.api_requests == requests * EDITS, log
        notes = {key: record["notes"] for key, record in sandbox.records(organization, "CONTACT").items()}
        assert {key for key, note in notes.items() if note != f"{round_} {key}"} == ({bad} if bad else set())
    assert (log.status, log.records_failed) == ("PARTIAL_SUCCESS", 1)
    assert one(database, "select count(distinct roi_entity_id) from softpro.outbox where settled_at is null") == 1
    assert "contactType" in one(database, "select error from softpro.pushes")
    execute(database, "update roi.contacts set contact_type = 'COMPANY' where softpro_contact_id = %s", bad)
    assert run_push(services, acme, KIND).records_failed == 0
    assert open_edits(database) == 0
    assert sandbox.records(organization, "CONTACT")[bad or ""]["contactType"] == "COMPANY"
