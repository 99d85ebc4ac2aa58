"""Compare both sides in a reconcile and repair differences, despite disturbances.

Where a test need not wait for the lag, it backdates the first 404 by some seconds.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.delete_limit import DeleteLimit
from softpro.errors import CircuitOpen
from softpro.services import Services

from ..support.database_state import contents
from ..support.databases import Server, dump, execute, one
from ..support.expected_rows import actual_rows
from ..support.fixture_types import Connected, StartSandbox
from ..support.forked_process import forked
from ..support.product import (
    begin_connection,
    build_services,
    command,
    connect_acme,
    environment,
    finish_connection,
    sync,
)
from ..support.reconcile_steps import (
    DELETED,
    IN_RAW,
    confirm,
    delete,
    differences,
    ids,
    nonzero_counts,
    reconcile,
    sweep,
)
from ..support.sandbox import Sandbox


@pytest.fixture
def acme(connected: Connected, services: Services) -> Integration:
    """Connect and load 45 transactions."""
    integration = connected("acme")
    assert sync(services, integration).status == "COMPLETED"
    return integration


def test_changes_during_the_sweep_and_before_the_next_sync_are_no_differences(
    database: Database, start_sandbox: StartSandbox
) -> None:
    sandbox = start_sandbox(changeWhilePaging=3)
    services, acme = connect_acme(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="10")
    sync(services, acme)
    vendor = sandbox.organizations[0]
    execute(database, "update softpro.cursors set updated_from = '2025-11-15', last_updated_at = null, last_id = null")
    sandbox.put(vendor, {"orderId": "new", "orderType": "SALE", "updatedAt": "2025-12-01T00:00:00Z"})
    audit = reconcile(services, acme)
    assert audit.status == "COMPLETED"
    assert audit.converged
    assert audit.in_flux > 0
    assert set(nonzero_counts(audit)) == {"in_flux"}
    assert differences(database) == {}


def test_an_unreadable_or_rejected_record_is_not_missing(
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
    assert nonzero_counts(audit) == {"unreadable": 3}


def test_a_record_in_quarantine_that_is_deleted_closes_its_case(
    acme: Integration, services: Services, sandbox: Sandbox, vendor_organization: str
) -> None:
    sandbox.put(vendor_organization, {"orderId": "bad", "purchasePrice": -5, "updatedAt": "2035-01-01T00:00:00Z"})
    assert sync(services, acme).records_failed == 1
    execute(services.database, "update raw.records set softpro_updated_at = '2025-01-01' where entity_id = 'bad'")
    sandbox.delete(vendor_organization, "bad")
    assert nonzero_counts(reconcile(services, acme)) == {"missing_there": 1, "deleted": 1}
    assert one(services.database, "select count(*) from softpro.quarantine where resolved_at is null") == 0
    assert ids(services.database, IN_RAW) == ["bad"]


def test_manual_damage_is_listed_and_repaired(
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

    assert nonzero_counts(audit) == {"missing_here": 2, "differing": 1, "not_loaded": 2}
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
    assert nonzero_counts(reconcile(services, acme)) == {}
    assert dump(database, versions=True)["roi.transactions"] == untouched


def test_an_error_about_one_record_leaves_it_for_the_next_reconcile(
    database: Database, start_sandbox: StartSandbox
) -> None:
    sandbox = start_sandbox()
    services, acme = connect_acme(database, sandbox, SOFTPRO_MAX_RETRIES="1")
    sync(services, acme)
    vendor = sandbox.organizations[0]
    sandbox.delete(vendor, min(sandbox.records(vendor)))
    audit = sweep(services, acme)
    sandbox.switch(proxyHtml=1)
    audit = confirm(services, audit)
    assert (audit.status, nonzero_counts(audit)) == ("COMPLETED", {"missing_there": 1, "unanswered": 1})
    assert not audit.converged
    assert "the next reconcile requests them again" in audit.problems()[0]
    assert one(database, "select error_message from softpro.audit_differences")
    sandbox.switch(proxyHtml=0)
    assert nonzero_counts(reconcile(services, acme)) == {"missing_there": 1, "deleted": 1}


def test_a_404_that_softpro_did_not_say_confirms_nothing(database: Database, sandbox: Sandbox) -> None:
    vendor = sandbox.unused_organization()
    services = build_services(environment(database, sandbox, SOFTPRO_MAX_RETRIES="0"), database)
    acme = finish_connection(services, sandbox.consent(begin_connection(services, "acme"), vendor))
    sync(services, acme)
    sandbox.delete(vendor, min(sandbox.records(vendor)))
    audit = sweep(services, acme)
    with lost_proxy() as address:
        elsewhere = environment(database, sandbox, SOFTPRO_SANDBOX_BASE_URL=address)
        audit = confirm(build_services(elsewhere, database), audit)
    assert (audit.status, nonzero_counts(audit)) == ("COMPLETED", {"missing_there": 1, "unanswered": 1})
    assert ids(database, DELETED) == []


def test_while_softpro_is_down_confirming_fails_and_resumes_later(
    database: Database, start_sandbox: StartSandbox
) -> None:
    sandbox = start_sandbox()
    services, acme = connect_acme(database, sandbox, SOFTPRO_MAX_RETRIES="0")
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
    assert (audit.run_id, nonzero_counts(audit)) == ("second", {"missing_there": 8, "unanswered": 5, "waiting": 3})


def test_lists_that_are_not_sorted_or_filtered_are_compared_too(
    database: Database, start_sandbox: StartSandbox
) -> None:
    sandbox = start_sandbox(honourSort=False, honourUpdatedFrom=False, changeWhilePaging=1)
    services, acme = connect_acme(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="10")
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
    other = sandbox.unused_organization()
    sync(services, connected("other", other))
    sandbox.delete(other, min(sandbox.records(other)))
    assert nonzero_counts(reconcile(services, acme)) == {}
    assert ids(services.database, DELETED) == []


def test_the_command_says_what_it_found_and_leaves_a_mass_delete_undone_without_yes(
    acme: Integration, services: Services, settings: dict[str, str], sandbox: Sandbox, vendor_organization: str
) -> None:
    gone = sorted(sandbox.records(vendor_organization))[:3]
    for order_id in gone:
        sandbox.delete(vendor_organization, order_id)

    asked = command(settings, "reconcile", "acme", "--entity", "transactions")
    assert asked.code == 1
    assert "transactions WAITING: SoftPro has 42, local before 45 and now 45, not in sync" in asked.out
    assert "3 of 45 records, which is more than the limit allows: nothing was deleted" in asked.err
    assert "reconcile acme --entity transactions --yes" in asked.err
    assert ids(services.database, DELETED) == []

    approved = command(settings, "reconcile", "acme", "--entity", "transactions", "--yes", "--json")
    assert approved.code == 0, approved.err
    report = json.loads(approved.out)
    assert (report["status"], report["deleted"], report["converged"]) == ("COMPLETED", 3, True)
    assert (report["vendor"], report["after"]["records"]) == (report["after"], 42)
    assert "command line" in report["decidedBy"]
    assert ids(services.database, DELETED) == gone


def test_a_reconcile_killed_at_any_step_and_repeated_leaves_the_same_tables(
    server: Server, start_sandbox: StartSandbox
) -> None:
    sandbox = start_sandbox(transactions=40, slow=1, slowSeconds=0.02)
    vendor = sandbox.organizations[0]
    with server.fresh() as untouched, server.fresh() as killed:
        products = {database: connect_acme(database, sandbox) for database in (untouched, killed)}
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
        assert reconcile(services, integration, limit=DeleteLimit(100, 100)).deleted == 15

        assert contents_without_times(killed) == contents_without_times(untouched)
        assert ids(killed, IN_RAW) == ids(untouched, IN_RAW)
        assert one(killed, "select count(*) from softpro.audits where status <> 'COMPLETED'") == 0
        assert one(killed, "select count(*) from softpro.leases where log_id is not null") == 0


@contextmanager
def lost_proxy() -> Iterator[str]:
    """Start a web server that responds with 404 to everything, and yield its address as that of the API."""

    class Lost(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            """Suppress the log."""

    with HTTPServer(("127.0.0.1", 0), Lost) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/api/v1"
        finally:
            server.shutdown()
            thread.join()


def kill(settings: dict[str, str], database: Database, status: str) -> None:
    """Kill a reconcile as soon as its audit has that status."""
    arguments = ["reconcile", "acme", "--entity", "transactions", "--yes"]
    with forked("softpro", *arguments, environment=settings) as (process, _, _):
        while process.poll() is None and status not in ids(database, "select status as id from softpro.audits"):
            time.sleep(0.01)
        process.kill()


def contents_without_times(database: Database) -> dict[str, list[str]]:
    """Return the contents of the tables with the times of deletes removed."""
    return {
        table: [re.sub(r'"deleted_at": "[^"]+"', '"deleted_at": true', line) for line in lines]
        for table, lines in contents(database).items()
    }
