"""What SoftPro has no more is deleted, softly, and only when that is certain (promise 8); both sides are compared.

Where a test has no need to wait for the lag, it lets the first 404 be some seconds older than it is.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest

from softpro import pipeline, reconciling
from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import CircuitOpen, LeaseLost, ServerError
from softpro.services import Services
from softpro.store.database import Database
from softpro.store.integrations import Integration
from softpro.sync.audits import Audit, Decision, Limit

from ..support.databases import Server, dump, execute, one, rows
from ..support.expected import actual_rows, expected_rows
from ..support.kinds import Connected, StartSandbox
from ..support.product import (
    begin_connection,
    between,
    command,
    environment,
    finish_connection,
    services_in,
    sync,
)
from ..support.state import contents
from ..support.vendor import Sandbox

LIMIT = Limit(5, 500)
MANUAL = SyncType.MANUAL
DELETED = "select softpro_order_id as id from roi.transactions where deleted_at is not null order by 1"
IN_RAW = "select entity_id as id from raw.records where deleted_at is not null order by 1"


@pytest.fixture
def acme(connected: Connected, services: Services) -> Integration:
    """Connected, and its 45 transactions loaded."""
    integration = connected("acme")
    assert sync(services, integration).status == "COMPLETED"
    return integration


def sweep(services: Services, integration: Integration, run_id: str = "first", **how: Any) -> Audit:
    return reconciling.sweep(
        services, integration, EntityType.TRANSACTION, sync_type=MANUAL, run_id=run_id, **{"seconds": 600, **how}
    )


def confirm(services: Services, audit: Audit, limit: Limit = LIMIT) -> Audit:
    """The first question, then, as if the lag had passed, the second one."""
    audit = reconciling.confirm(services, audit, limit, sync_type=MANUAL, seconds=2)
    return confirm_again(services, audit, limit) if audit.status == "CONFIRMING" else audit


def confirm_again(services: Services, audit: Audit, limit: Limit = LIMIT) -> Audit:
    execute(services.database, "update softpro.audit_differences set missing_at = missing_at - interval '6 seconds'")
    return reconciling.confirm(services, audit, limit, sync_type=MANUAL, seconds=5)


def delete(services: Services, audit: Audit) -> Audit:
    return reconciling.delete(services, audit, sync_type=MANUAL)


def reconcile(services: Services, integration: Integration, run_id: str | None = None, limit: Limit = LIMIT) -> Audit:
    """All steps, but for the wait."""
    audit = confirm(services, sweep(services, integration, run_id or f"test__{uuid4()}"), limit)
    return delete(services, audit) if audit.status == "DELETING" else audit


def found(audit: Audit) -> dict[str, int]:
    """The counts that are not 0."""
    return {name: count for name, count in audit.counts().items() if count}


def ids(database: Database, query: str) -> list[str]:
    return [row["id"] for row in rows(database, query)]


def bodies(sandbox: Sandbox, organization: str) -> dict[str, bytes]:
    """The records as the vendor has them, byte for byte."""
    return {json.loads(line)["orderId"]: line for line in sandbox.export(organization)}


def differences(database: Database) -> dict[str, tuple[str, str]]:
    """Of the newest audit, by id: kind and outcome."""
    query = """
        select entity_id, kind, outcome from softpro.audit_differences
        where audit_id = (select id from softpro.audits order by started_at desc limit 1)
    """
    return {row["entity_id"]: (row["kind"], row["outcome"]) for row in rows(database, query)}


def test_what_softpro_has_no_more_is_deleted_softly_and_a_second_reconcile_is_quiet(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    database, gone = services.database, sorted(sandbox.records(vendor_organization))[:2]
    before = {row["softpro_order_id"]: row for row in rows(database, "select * from roi.transactions")}
    for order_id in gone:
        sandbox.delete(vendor_organization, order_id)
    began = time.time()

    audit = reconciling.reconcile(
        services, acme, EntityType.TRANSACTION, limit=LIMIT, sync_type=MANUAL, run_id="cli__first"
    )

    assert (audit.status, found(audit)) == ("COMPLETED", {"missing_there": 2, "deleted": 2})
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
    assert (again.status, found(again), again.converged) == ("COMPLETED", {}, True)
    after = dump(database, versions=True)
    assert [name for name in after if name.startswith(("roi.", "raw.")) and after[name] != untouched[name]] == []
    assert one(database, "select count(*) from softpro.audit_seen") == 0


def test_what_answers_again_is_not_deleted_and_a_list_that_lost_a_record_is_healed(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    """One is back after its first 404; two, one of them changed, had only been missing in the list; one is gone."""
    kept = bodies(sandbox, vendor_organization)
    back, unlisted, changed, gone = sorted(kept)[:4]
    for order_id in (back, unlisted, changed, gone):
        sandbox.delete(vendor_organization, order_id)
    audit = sweep(services, acme)
    assert found(audit) == {"missing_there": 4}
    sandbox.put(vendor_organization, kept[unlisted])
    sandbox.put(vendor_organization, {**json.loads(kept[changed]), "notes": "was there all the time"})

    audit = reconciling.confirm(services, audit, LIMIT, sync_type=MANUAL, seconds=0.2)
    assert audit.status == "CONFIRMING"
    sandbox.put(vendor_organization, kept[back])
    audit = delete(services, confirm_again(services, audit))

    assert (audit.status, found(audit)) == ("COMPLETED", {"missing_there": 4, "found": 3, "deleted": 1})
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


def test_a_sweep_that_fails_believes_nothing_and_the_next_run_goes_on_from_there(
    database: Database, start_sandbox: StartSandbox
) -> None:
    sandbox = start_sandbox()
    services, acme = between(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="20")
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
    assert found(delete(services, confirm(services, audit))) == {"missing_there": 1, "deleted": 1}


def test_a_sync_that_takes_over_an_unfinished_sweep_notes_what_it_sees(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    gone = max(sandbox.records(vendor_organization))
    sandbox.delete(vendor_organization, gone)
    assert sweep(services, acme, seconds=0).status == "SWEEPING"
    assert sync(services, acme).records_fetched == 24
    assert one(services.database, "select status from softpro.audits") == "SWEPT"
    audit = delete(services, confirm(services, sweep(services, acme)))
    assert (found(audit), audit.converged) == ({"missing_there": 1, "deleted": 1}, True)


def test_what_a_sweep_saw_is_not_believed_after_the_database_lost_it(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    assert sweep(services, acme, seconds=0).status == "SWEEPING"
    execute(services.database, "truncate softpro.audit_seen")  # as after a crash
    audit = sweep(services, acme)
    assert (audit.status, differences(services.database)) == ("FAILED", {})
    assert "reconcile again" in audit.problems()[0]
    assert reconcile(services, acme).status == "COMPLETED"


@pytest.mark.parametrize("decision", [Decision.REJECTED, Decision.NO_ANSWER])
def test_above_the_limit_nothing_is_deleted_unless_a_person_approves(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str, decision: Decision
) -> None:
    for order_id in sorted(sandbox.records(vendor_organization))[:3]:
        sandbox.delete(vendor_organization, order_id)
    audit = confirm(services, sweep(services, acme))
    assert (audit.status, audit.our_count_after) == ("WAITING", 45)
    assert found(audit) == {"missing_there": 3, "waiting": 3}
    assert one(services.database, "select count(*) from softpro.leases where log_id is not null") == 0
    assert sync(services, acme).status == "COMPLETED"

    audit = reconciling.decide(services.database, audit, decision, "somebody")

    assert (audit.status, audit.decision, audit.decided_by) == ("COMPLETED", decision, "somebody")
    assert found(audit) == {"missing_there": 3}
    assert ids(services.database, DELETED) == []
    assert set(differences(services.database).values()) == {("MISSING_THERE", "SPARED")}


def test_approved_after_an_hour_each_record_is_asked_for_once_more(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    database, kept = services.database, bodies(sandbox, vendor_organization)
    back, relisted, *gone = sorted(kept)[:5]
    for order_id in (back, relisted, *gone):
        sandbox.delete(vendor_organization, order_id)
    audit = confirm(services, sweep(services, acme), Limit(100, 4))
    assert audit.waiting == 5
    execute(database, "update softpro.audit_differences set confirmed_at = confirmed_at - interval '61 minutes'")
    sandbox.put(vendor_organization, kept[back])
    sandbox.put(vendor_organization, kept[relisted])
    assert sync(services, acme, mode=Mode.DELTA).records_processed == 0  # it lists both, as they were
    sandbox.delete(vendor_organization, relisted)
    began = time.time()

    audit = delete(services, reconciling.decide(database, audit, Decision.APPROVED, "somebody"))

    assert (audit.status, found(audit)) == ("COMPLETED", {"missing_there": 5, "found": 2, "deleted": 3})
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
        reconciling.decide(services.database, waiting, Decision.APPROVED, "somebody")
    approved = sweep(services, acme, "third", approving=True)
    assert (approved.id, approved.run_id) == (later.id, "third")
    audit = delete(services, reconciling.decide(services.database, approved, Decision.APPROVED, "somebody"))
    assert found(audit) == {"missing_there": 3, "deleted": 3}


@pytest.mark.parametrize(
    ("count", "live", "passed"), [(5, 100, False), (6, 100, True), (500, 10_000, False), (501, 1_000_000, True)]
)
def test_the_limit_is_passed_by_whichever_comes_first(count: int, live: int, passed: bool) -> None:
    assert LIMIT.is_passed_by(count, live) is passed


def test_a_deleted_record_comes_back_only_when_softpro_sends_it_again(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    database, kept = services.database, bodies(sandbox, vendor_organization)
    changed, same = sorted(kept)[:2]
    for order_id in (changed, same):
        sandbox.delete(vendor_organization, order_id)
    assert reconcile(services, acme).deleted == 2

    sync(services, acme, mode=Mode.FULL)
    pipeline.remap(database, acme, EntityType.TRANSACTION, sync_type=MANUAL, run_id="remap")
    assert ids(database, DELETED) == ids(database, IN_RAW) == [changed, same]

    newer = {**json.loads(kept[changed]), "notes": "alive", "updatedAt": "2025-12-01T00:00:00.000Z"}
    sandbox.put(vendor_organization, newer)
    assert sync(services, acme).records_updated == 1
    assert ids(database, DELETED) == ids(database, IN_RAW) == [same]

    sandbox.put(vendor_organization, kept[same])  # as it was, and of the same age
    audit = reconcile(services, acme)
    assert (found(audit), audit.converged) == ({"missing_here": 1}, True)
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


def test_changes_during_the_sweep_and_before_the_next_sync_are_no_differences(
    database: Database, start_sandbox: StartSandbox
) -> None:
    sandbox = start_sandbox(changeWhilePaging=3)
    services, acme = between(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="10")
    sync(services, acme)
    vendor = sandbox.organizations[0]
    execute(database, "update softpro.cursors set updated_from = '2025-11-15', last_updated_at = null, last_id = null")
    sandbox.put(vendor, {"orderId": "new", "orderType": "SALE", "updatedAt": "2025-12-01T00:00:00Z"})
    audit = reconcile(services, acme)
    assert audit.status == "COMPLETED"
    assert audit.converged
    assert audit.in_flux > 0
    assert set(found(audit)) == {"in_flux"}
    assert differences(database) == {}


def test_a_record_that_can_not_be_read_or_loaded_is_there_and_not_missing(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    first, second = sorted(sandbox.records(vendor_organization))[:2]
    sandbox.put(vendor_organization, {"orderId": first, "orderType": "SALE", "updatedAt": "yesterday"})
    sandbox.put(
        vendor_organization, {"orderId": second, "notes": "half a pair: \ud83c", "updatedAt": "2035-01-01T00:00:00Z"}
    )
    sandbox.put(vendor_organization, {"orderId": "never", "notes": "NUL: \x00", "updatedAt": "2025-06-01T00:00:00Z"})
    sandbox.put(vendor_organization, {"orderId": "bad", "purchasePrice": -5, "updatedAt": "2025-06-01T00:00:00Z"})
    for _ in range(2):
        audit = reconcile(services, acme)
        assert audit.status == "COMPLETED"
        assert audit.unreadable == 3
        assert (audit.missing_there, audit.deleted, audit.converged) == (0, 0, True)
    assert found(audit) == {"unreadable": 3}


def test_a_record_in_quarantine_that_is_deleted_closes_its_case(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    sandbox.put(vendor_organization, {"orderId": "bad", "purchasePrice": -5, "updatedAt": "2035-01-01T00:00:00Z"})
    assert sync(services, acme).records_failed == 1
    execute(services.database, "update raw.records set softpro_updated_at = '2025-01-01' where entity_id = 'bad'")
    sandbox.delete(vendor_organization, "bad")
    assert found(reconcile(services, acme)) == {"missing_there": 1, "deleted": 1}
    assert one(services.database, "select count(*) from softpro.quarantine where resolved_at is null") == 0
    assert ids(services.database, IN_RAW) == ["bad"]


def test_what_was_damaged_by_hand_is_listed_and_healed(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    database = services.database
    damaged, removed, rowless, hidden, unknown = sorted(sandbox.records(vendor_organization))[:5]
    truth = actual_rows(database, "acme")
    for statement, order_id in {
        "update raw.records set payload_hash = '\\x00' where entity_id = %s": damaged,
        "delete from raw.records where entity_id = %s": removed,
        "delete from roi.transactions where softpro_order_id = %s": rowless,
        "update roi.transactions set deleted_at = now() where softpro_order_id = %s": hidden,
    }.items():
        execute(database, statement, order_id)
    execute(database, "delete from raw.records where entity_id = %s", unknown)
    execute(database, "delete from roi.transactions where softpro_order_id = %s", unknown)

    audit = reconcile(services, acme)

    assert found(audit) == {"missing_here": 2, "differing": 1, "not_loaded": 2}
    assert (audit.vendor_count, audit.our_count_before, audit.our_count_after) == (45, 43, 45)
    assert audit.converged
    assert differences(database) == {
        damaged: ("DIFFERS", "HEALED"),
        removed: ("MISSING_HERE", "HEALED"),
        unknown: ("MISSING_HERE", "HEALED"),
        rowless: ("NOT_LOADED", "HEALED"),
        hidden: ("NOT_LOADED", "HEALED"),
    }
    assert actual_rows(database, "acme") == truth
    assert ids(database, DELETED) == []
    untouched = dump(database, versions=True)["roi.transactions"]
    assert found(reconcile(services, acme)) == {}
    assert dump(database, versions=True)["roi.transactions"] == untouched


def test_an_error_about_one_record_leaves_it_for_the_next_reconcile(
    database: Database, start_sandbox: StartSandbox
) -> None:
    sandbox = start_sandbox()
    services, acme = between(database, sandbox, SOFTPRO_MAX_RETRIES="1")
    sync(services, acme)
    vendor = sandbox.organizations[0]
    sandbox.delete(vendor, min(sandbox.records(vendor)))
    audit = sweep(services, acme)
    sandbox.switch(proxyHtml=1)
    audit = confirm(services, audit)
    assert (audit.status, found(audit)) == ("COMPLETED", {"missing_there": 1, "unanswered": 1})
    assert not audit.converged
    assert "the next reconcile asks for them again" in audit.problems()[0]
    assert one(database, "select error_message from softpro.audit_differences")
    sandbox.switch(proxyHtml=0)
    assert found(reconcile(services, acme)) == {"missing_there": 1, "deleted": 1}


def test_a_404_that_softpro_did_not_say_confirms_nothing(database: Database, sandbox: Sandbox) -> None:
    vendor = sandbox.untouched()
    services = services_in(environment(database, sandbox, SOFTPRO_MAX_RETRIES="0"), database)
    acme = finish_connection(services, sandbox.consent(begin_connection(services, "acme"), vendor))
    sync(services, acme)
    sandbox.delete(vendor, min(sandbox.records(vendor)))
    audit = sweep(services, acme)
    with lost_proxy() as address:
        elsewhere = environment(database, sandbox, SOFTPRO_SANDBOX_BASE_URL=address)
        audit = confirm(services_in(elsewhere, database), audit)
    assert (audit.status, found(audit)) == ("COMPLETED", {"missing_there": 1, "unanswered": 1})
    assert ids(database, DELETED) == []


def test_where_softpro_is_down_confirming_fails_and_goes_on_later(
    database: Database, start_sandbox: StartSandbox
) -> None:
    sandbox = start_sandbox()
    services, acme = between(database, sandbox, SOFTPRO_MAX_RETRIES="0")
    sync(services, acme)
    vendor = sandbox.organizations[0]
    for order_id in sorted(sandbox.records(vendor))[:8]:
        sandbox.delete(vendor, order_id)
    audit = sweep(services, acme)
    sandbox.switch(error503=1)
    with pytest.raises(CircuitOpen):
        confirm(services, audit)
    assert one(database, "select status from softpro.audits") == "CONFIRMING"
    assert one(database, "select status from softpro.sync_logs order by started_at desc limit 1") == "FAILED"
    sandbox.switch(error503=0)
    execute(database, "delete from softpro.breakers")
    audit = confirm(services, sweep(services, acme, "second"))
    assert (audit.run_id, found(audit)) == ("second", {"missing_there": 8, "unanswered": 5, "waiting": 3})


def test_lists_that_are_not_sorted_or_filtered_are_compared_all_the_same(
    database: Database, start_sandbox: StartSandbox
) -> None:
    sandbox = start_sandbox(honourSort=False, honourUpdatedFrom=False, changeWhilePaging=1)
    services, acme = between(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="10")
    sync(services, acme)
    vendor = sandbox.organizations[0]
    gone = sorted(sandbox.records(vendor))[10:12]
    for order_id in gone:
        sandbox.delete(vendor, order_id)
    run = sweep(services, acme, seconds=0)
    assert run.status == "SWEEPING"
    audit = delete(services, confirm(services, sweep(services, acme)))
    assert (audit.missing_there, audit.deleted, audit.missing_here, audit.differing) == (2, 2, 0, 0)
    assert audit.converged
    assert ids(database, DELETED) == gone


def test_other_organizations_are_left_alone(
    acme: Integration, connected: Connected, services: Services, sandbox: Sandbox
) -> None:
    other = sandbox.untouched()
    sync(services, connected("other", other))
    sandbox.delete(other, min(sandbox.records(other)))
    assert found(reconcile(services, acme)) == {}
    assert ids(services.database, DELETED) == []


def test_the_command_says_what_it_found_and_leaves_a_mass_delete_undone_without_yes(
    acme: Integration, services: Services, settings: dict[str, str], sandbox: Sandbox, vendor_organization: str
) -> None:
    gone = sorted(sandbox.records(vendor_organization))[:3]
    for order_id in gone:
        sandbox.delete(vendor_organization, order_id)

    asked = command(settings, "reconcile", "acme", "--entity", "transactions")
    assert asked.code == 1
    assert "transactions WAITING: SoftPro has 42, here were 45 and are 45, not the same" in asked.out
    assert "3 of 45 records, which is more than the limit allows: nothing was deleted" in asked.err
    assert "reconcile acme --yes" in asked.err
    assert ids(services.database, DELETED) == []

    approved = command(settings, "reconcile", "acme", "--entity", "transactions", "--yes", "--json")
    assert approved.code == 0, approved.err
    told = json.loads(approved.out)
    assert (told["status"], told["deleted"], told["converged"]) == ("COMPLETED", 3, True)
    assert (told["vendor"], told["after"]["records"]) == (told["after"], 42)
    assert "command line" in told["decidedBy"]
    assert ids(services.database, DELETED) == gone


def test_killed_at_any_step_and_run_again_it_leaves_what_one_never_killed_leaves(
    server: Server, start_sandbox: StartSandbox
) -> None:
    sandbox = start_sandbox(transactions=40, slow=1, slowSeconds=0.02)
    vendor = sandbox.organizations[0]
    with server.fresh() as untouched, server.fresh() as killed:
        products = {database: between(database, sandbox) for database in (untouched, killed)}
        for services, integration in products.values():
            sync(services, integration)
        for order_id in sorted(sandbox.records(vendor))[:15]:
            sandbox.delete(vendor, order_id)
        sandbox.change(vendor, count=5)
        settings = environment(killed, sandbox, SOFTPRO_SYNC_BATCH_SIZE="3", SOFTPRO_DELETE_LIMIT_RECORDS="100")
        for status in ("SWEEPING", "CONFIRMING", "DELETING"):
            kill(settings, killed, status)
            assert one(killed, "select status from softpro.audits") == status
        ended = command(settings, "reconcile", "acme", "--entity", "transactions", "--yes")
        assert ended.code == 0, ended.err
        services, integration = products[untouched]
        assert reconcile(services, integration, limit=Limit(100, 100)).deleted == 15

        assert timeless(killed) == timeless(untouched)
        assert ids(killed, IN_RAW) == ids(untouched, IN_RAW)
        assert one(killed, "select count(*) from softpro.audits where status <> 'COMPLETED'") == 0
        assert one(killed, "select count(*) from softpro.leases where log_id is not null") == 0


@contextmanager
def lost_proxy() -> Iterator[str]:
    """A web server that knows no page. Its address, as one of the API."""

    class Lost(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Lost) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/v1"
        finally:
            server.shutdown()
            thread.join()


def kill(settings: dict[str, str], database: Database, status: str) -> None:
    """Kills a reconcile as soon as its audit has that status."""
    process = subprocess.Popen(
        [sys.executable, "-m", "softpro", "reconcile", "acme", "--entity", "transactions", "--yes"],
        env=settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and status not in ids(database, "select status as id from softpro.audits"):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def timeless(database: Database) -> dict[str, list[str]]:
    """What the tables hold; of a delete that it was, not when."""
    return {
        table: [re.sub(r'"deleted_at": "[^"]+"', '"deleted_at": true', line) for line in lines]
        for table, lines in contents(database).items()
    }
