"""Soft-delete records that are missing at SoftPro, and only once that is confirmed (promise 8).

Where a test need not wait for the lag, it backdates the first 404 by some seconds.
"""

from __future__ import annotations

import json
import time

import pytest

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.delete_limit import DeleteLimit
from softpro.entities import EntityType, Mode
from softpro.errors import LeaseLost, ServerError
from softpro.reconcile.audits import AuditDecision
from softpro.runs import reconcile as runs_reconcile
from softpro.runs import sync as runs_sync
from softpro.services import Services

from ..support.databases import dump, execute, one, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import Connected, StartSandbox
from ..support.product import (
    connect_acme,
    quality_settings,
    sync,
)
from ..support.reconcile_steps import (
    DELETED,
    IN_RAW,
    LIMIT,
    MANUAL,
    confirm,
    confirm_again,
    delete,
    differences,
    ids,
    nonzero_counts,
    reconcile,
    records_as_bytes,
    sweep,
)
from ..support.sandbox import Sandbox


@pytest.fixture
def acme(connected: Connected, services: Services) -> Integration:
    """Connect and load 45 transactions."""
    integration = connected("acme")
    assert sync(services, integration).status == "COMPLETED"
    return integration


def test_records_missing_at_softpro_are_soft_deleted_and_a_second_reconcile_changes_nothing(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    database, gone = services.database, sorted(sandbox.records(vendor_organization))[:2]
    before = {row["softpro_order_id"]: row for row in rows(database, "select * from roi.transactions")}
    for order_id in gone:
        sandbox.delete(vendor_organization, order_id)
    began = time.time()

    audit = runs_reconcile.reconcile(
        services, acme, EntityType.TRANSACTION, limit=LIMIT, sync_type=MANUAL, run_id="cli__first"
    )

    assert (audit.status, nonzero_counts(audit)) == ("COMPLETED", {"missing_there": 2, "deleted": 2})
    assert (audit.vendor_count, audit.our_count_before, audit.our_count_after) == (43, 45, 43)
    assert audit.converged
    assert audit.our_hash_before != audit.vendor_hash
    asked = [call["at"] for call in sandbox.calls(began) if call["status"] == 404]
    assert len(asked) == 4
    assert asked[2] - asked[0] >= 5
    assert ids(database, DELETED) == ids(database, IN_RAW) == gone
    for old in rows(database, "select * from roi.transactions_history"):
        assert (old.pop("changed_fields"), old.pop("valid_from")) == (["deleted_at"], old["updated_at"])
        now = one(database, "select updated_at from roi.transactions where id = %s", old["id"])
        assert old.pop("valid_to") == now
        assert old == before[old["softpro_order_id"]]
    assert rows(database, "select operation, status, records_processed, records_updated from softpro.sync_logs")[
        1:
    ] == [
        {"operation": "SYNC", "status": "COMPLETED", "records_processed": 0, "records_updated": 0},
        {"operation": "DELETE", "status": "COMPLETED", "records_processed": 2, "records_updated": 2},
    ]

    untouched = dump(database, versions=True)
    again = reconcile(services, acme)
    assert (again.status, nonzero_counts(again), again.converged) == ("COMPLETED", {}, True)
    after = dump(database, versions=True)
    assert [name for name in after if name.startswith(("roi.", "raw.")) and after[name] != untouched[name]] == []
    assert one(database, "select count(*) from softpro.audit_seen") == 0


def test_a_record_that_answers_again_is_not_deleted_and_a_lost_list_entry_is_repaired(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    """One returns after its first 404, two were only missing in the list (one of them changed), one is deleted."""
    kept = records_as_bytes(sandbox, vendor_organization)
    back, unlisted, changed, gone = sorted(kept)[:4]
    for order_id in (back, unlisted, changed, gone):
        sandbox.delete(vendor_organization, order_id)
    audit = sweep(services, acme)
    assert nonzero_counts(audit) == {"missing_there": 4}
    sandbox.put(vendor_organization, kept[unlisted])
    sandbox.put(vendor_organization, {**json.loads(kept[changed]), "notes": "was there all the time"})

    unasked = "select count(*) from softpro.audit_differences where outcome = 'OPEN' and missing_at is null"
    while one(services.database, unasked):  # a busy machine may not reach all of them at once
        audit = runs_reconcile.confirm(services, audit, LIMIT, sync_type=MANUAL, seconds=0.2)
        assert audit.status == "CONFIRMING"
    sandbox.put(vendor_organization, kept[back])
    audit = delete(services, confirm_again(services, audit))

    assert (audit.status, nonzero_counts(audit)) == ("COMPLETED", {"missing_there": 4, "found": 3, "deleted": 1})
    assert audit.converged
    assert differences(services.database) == {
        back: ("MISSING_THERE", "FOUND"),
        unlisted: ("MISSING_THERE", "FOUND"),
        changed: ("MISSING_THERE", "FOUND"),
        gone: ("MISSING_THERE", "DELETED"),
    }
    assert ids(services.database, DELETED) == [gone]
    living = actual_rows(services.database, "acme")
    del living[gone]
    assert living == expected_rows(sandbox.records(vendor_organization))


def test_a_failed_sweep_deletes_nothing_and_the_next_run_resumes_it(
    database: Database, start_sandbox: StartSandbox
) -> None:
    sandbox = start_sandbox()
    services, acme = connect_acme(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="20")
    sync(services, acme)
    vendor = sandbox.organizations[0]
    gone = min(sandbox.records(vendor))
    sandbox.delete(vendor, gone)
    assert sweep(services, acme, seconds=0).status == "SWEEPING"
    sandbox.switch(error500=1)

    with pytest.raises(ServerError):
        sweep(services, acme)

    assert differences(database) == {}
    assert one(database, "select status from softpro.audits") == "SWEEPING"
    assert one(database, "select status from softpro.sync_logs order by started_at desc limit 1") == "FAILED"
    sandbox.switch(error500=0)
    asked = sandbox.requests_of(vendor)
    audit = sweep(services, acme, "second")
    assert sandbox.requests_of(vendor) - asked == 2  # of three pages
    assert audit.run_id == "second"
    assert nonzero_counts(delete(services, confirm(services, audit))) == {"missing_there": 1, "deleted": 1}


def test_a_sync_that_takes_over_an_unfinished_sweep_notes_what_it_sees(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    gone = max(sandbox.records(vendor_organization))
    sandbox.delete(vendor_organization, gone)
    assert sweep(services, acme, seconds=0).status == "SWEEPING"
    assert sync(services, acme).records_fetched == 24
    assert one(services.database, "select status from softpro.audits") == "SWEPT"
    audit = delete(services, confirm(services, sweep(services, acme)))
    assert (nonzero_counts(audit), audit.converged) == ({"missing_there": 1, "deleted": 1}, True)


def test_lost_sweep_sightings_are_not_used(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    assert sweep(services, acme, seconds=0).status == "SWEEPING"
    execute(services.database, "truncate softpro.audit_seen")  # as after a crash
    audit = sweep(services, acme)
    assert (audit.status, differences(services.database)) == ("FAILED", {})
    assert "reconcile again" in audit.problems()[0]
    assert reconcile(services, acme).status == "COMPLETED"


@pytest.mark.parametrize("decision", [AuditDecision.REJECTED, AuditDecision.NO_ANSWER])
def test_above_the_limit_nothing_is_deleted_unless_a_user_approves(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str, decision: AuditDecision
) -> None:
    for order_id in sorted(sandbox.records(vendor_organization))[:3]:
        sandbox.delete(vendor_organization, order_id)
    audit = confirm(services, sweep(services, acme))
    assert (audit.status, audit.our_count_after) == ("WAITING", 45)
    assert nonzero_counts(audit) == {"missing_there": 3, "waiting": 3}
    assert one(services.database, "select count(*) from softpro.leases where log_id is not null") == 0
    assert sync(services, acme).status == "COMPLETED"

    audit = runs_reconcile.decide(services.database, audit, decision, "somebody")

    assert (audit.status, audit.decision, audit.decided_by) == ("COMPLETED", decision, "somebody")
    assert nonzero_counts(audit) == {"missing_there": 3}
    assert ids(services.database, DELETED) == []
    assert set(differences(services.database).values()) == {("MISSING_THERE", "SPARED")}


def test_approved_after_an_hour_each_record_is_asked_for_once_more(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    database, kept = services.database, records_as_bytes(sandbox, vendor_organization)
    back, relisted, *gone = sorted(kept)[:5]
    for order_id in (back, relisted, *gone):
        sandbox.delete(vendor_organization, order_id)
    audit = confirm(services, sweep(services, acme), DeleteLimit(100, 4))
    assert audit.waiting == 5
    execute(database, "update softpro.audit_differences set confirmed_at = confirmed_at - interval '61 minutes'")
    sandbox.put(vendor_organization, kept[back])
    sandbox.put(vendor_organization, kept[relisted])
    assert sync(services, acme, mode=Mode.DELTA).records_processed == 0  # lists both, unchanged
    sandbox.delete(vendor_organization, relisted)
    began = time.time()

    audit = delete(services, runs_reconcile.decide(database, audit, AuditDecision.APPROVED, "somebody"))

    assert (audit.status, nonzero_counts(audit)) == ("COMPLETED", {"missing_there": 5, "found": 2, "deleted": 3})
    assert len([call for call in sandbox.calls(began) if call["call"].startswith("GET /transactions/")]) == 5
    assert ids(database, DELETED) == gone


def test_a_later_audit_takes_the_place_of_one_that_waits(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    for order_id in sorted(sandbox.records(vendor_organization))[:3]:
        sandbox.delete(vendor_organization, order_id)
    waiting = confirm(services, sweep(services, acme))
    later = confirm(services, sweep(services, acme, "second"))
    assert (later.status, later.waiting) == ("WAITING", 3)
    with pytest.raises(LeaseLost, match="SUPERSEDED"):
        runs_reconcile.decide(services.database, waiting, AuditDecision.APPROVED, "somebody")
    approved = sweep(services, acme, "third", approving=True)
    assert (approved.id, approved.run_id) == (later.id, "third")
    audit = delete(services, runs_reconcile.decide(services.database, approved, AuditDecision.APPROVED, "somebody"))
    assert nonzero_counts(audit) == {"missing_there": 3, "deleted": 3}


@pytest.mark.parametrize(
    ("count", "live", "passed"), [(5, 100, False), (6, 100, True), (500, 10_000, False), (501, 1_000_000, True)]
)
def test_the_limit_applies_to_the_share_and_to_the_number(count: int, live: int, passed: bool) -> None:
    assert LIMIT.is_exceeded_by(count, live) is passed


def test_a_deleted_record_comes_back_only_when_softpro_sends_it_again(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    database, kept = services.database, records_as_bytes(sandbox, vendor_organization)
    changed, same = sorted(kept)[:2]
    for order_id in (changed, same):
        sandbox.delete(vendor_organization, order_id)
    assert reconcile(services, acme).deleted == 2

    sync(services, acme, mode=Mode.FULL)
    runs_sync.remap(
        database, acme, EntityType.TRANSACTION, sync_type=MANUAL, run_id="remap", quality=quality_settings()
    )
    assert ids(database, DELETED) == ids(database, IN_RAW) == [changed, same]

    newer = {**json.loads(kept[changed]), "notes": "alive", "updatedAt": "2025-12-01T00:00:00.000Z"}
    sandbox.put(vendor_organization, newer)
    assert sync(services, acme).records_updated == 1
    assert ids(database, DELETED) == ids(database, IN_RAW) == [same]

    sandbox.put(vendor_organization, kept[same])  # unchanged, and of the same age
    audit = reconcile(services, acme)
    assert (nonzero_counts(audit), audit.converged) == ({"missing_here": 1}, True)
    assert ids(database, DELETED) == ids(database, IN_RAW) == []
    versions = rows(
        database,
        "select changed_fields, deleted_at is null as alive from roi.transactions_history "
        "where softpro_order_id = %s order by valid_from",
        same,
    )
    assert versions == [
        {"changed_fields": ["deleted_at"], "alive": True},
        {"changed_fields": ["deleted_at"], "alive": False},
    ]
