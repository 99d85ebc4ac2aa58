"""Sync correctly for every possible behavior of the vendor that the contract leaves open; slower is fine."""

from __future__ import annotations

import time
from typing import Any

import pytest

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType, Mode
from softpro.runs import pipeline
from softpro.services import Services
from softpro.softpro360 import capabilities
from softpro.softpro360.capabilities import Capabilities

from ..support.databases import one, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.fixture_types import StartSandbox
from ..support.product import begin, begin_connection, build_services, environment, finish_connection, sync
from ..support.sandbox import Sandbox

Switches = dict[str, Any]
UNFILTERED: Switches = {"honourUpdatedFrom": False}
UNSORTED: Switches = {"honourSort": False}
UNKNOWNS: dict[str, Switches] = {
    "updatedFrom is ignored": UNFILTERED,
    "sortBy is ignored": UNSORTED,
    "ties in descending order": {"ties": "descending"},
    "ties in the order of GUIDs": {"ties": "guid"},
    "no ETags": {"etags": False},
    "refresh tokens stay": {"rotateRefresh": False},
    "a feed of deletes": {"deletesFeed": True},
    "webhooks carry ids only": {"webhookRecord": False},
}
UNKNOWNS["all of it"] = {switch: value for each in UNKNOWNS.values() for switch, value in each.items()}


class Pair:
    """A sandbox of the test's own and an organization of ours connected to it, with pages of 10."""

    def __init__(self, sandbox: Sandbox, database: Database) -> None:
        (self.organization,) = sandbox.organizations
        self.sandbox, self.database = sandbox, database
        settings = environment(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="10")
        self.services: Services = build_services(settings, database)
        address = sandbox.consent(begin_connection(self.services, "acme"), self.organization)
        self.integration: Integration = finish_connection(self.services, address)

    def sync(self, entity_type: EntityType = EntityType.TRANSACTION, mode: Mode = Mode.INCREMENTAL) -> int:
        """Sync a stream and return how many records were fetched."""
        log = sync(self.services, self.integration, entity_type, mode)
        assert log.status == "COMPLETED", log.error_message
        return log.records_fetched

    def change(self, count: int, entity_type: EntityType = EntityType.TRANSACTION, **how: object) -> None:
        self.sandbox.change(self.organization, entity_type.value, count, **how)

    def note(self, **facts: object) -> None:
        """Store capabilities, as a probe does."""
        with self.database.connect() as connection:
            capabilities.note(connection, self.integration.id, **facts)

    def requests(self) -> int:
        """Return how many calls were made so far."""
        return self.sandbox.requests_of(self.organization)

    def assert_equal(self) -> None:
        for entity_type in EntityType:
            actual = actual_rows(self.database, "acme", entity_type.value)
            if actual:  # else it was never synced
                records = self.sandbox.records(self.organization, entity_type.value)
                assert actual == expected_rows(records, entity_type.value)


@pytest.mark.parametrize("switches", UNKNOWNS.values(), ids=UNKNOWNS.keys())
def test_full_and_incremental_syncs_end_equal_to_the_vendor(
    switches: Switches, start_sandbox: StartSandbox, database: Database
) -> None:
    pair = Pair(start_sandbox(transactions=60, contacts=25, **switches), database)
    for entity_type in EntityType:
        pair.sync(entity_type, Mode.FULL)
    pair.assert_equal()

    pair.sandbox.switch(lag=0.4, changeWhilePaging=1)
    for entity_type in EntityType:
        pair.change(15, entity_type, sameTimestamp=True)
        pair.change(5, entity_type)
        pair.sync(entity_type)
    pair.sandbox.expire(pair.organization)
    pair.sandbox.switch(lag=0, changeWhilePaging=0)
    time.sleep(0.5)  # until all changes have surfaced
    for entity_type in EntityType:
        pair.change(3, entity_type)
        pair.sync(entity_type)
    pair.assert_equal()


@pytest.mark.parametrize(
    ("switches", "lacking"),
    [
        (UNFILTERED, {"filters_updated_from": False, "sorts_by_updated_at": None}),
        (UNSORTED, {"filters_updated_from": None, "sorts_by_updated_at": False}),
        (UNFILTERED | UNSORTED, {"filters_updated_from": False, "sorts_by_updated_at": False}),
    ],
)
def test_missing_vendor_capabilities_are_stored_and_not_tried_again(
    switches: dict[str, bool],
    lacking: dict[str, bool | None],
    start_sandbox: StartSandbox,
    database: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pair = Pair(start_sandbox(transactions=60, contacts=0, **switches), database)
    pair.sync()
    pair.sync()
    assert rows(database, "select filters_updated_from, sorts_by_updated_at from softpro.capabilities") == [lacking]
    noted = [vars(record) for record in caplog.records if record.message.startswith("capability_noted")]
    assert sorted(record["fact"] for record in noted) == [
        f"{fact}=false" for fact in sorted(lacking) if lacking[fact] is False
    ]
    assert {record["integration_id"] for record in noted} == {str(pair.integration.id)}
    (cursor,) = rows(database, "select page_offset, last_id, sweep_visible_until, backlog from softpro.cursors")
    assert cursor == {"page_offset": 0, "last_id": None, "sweep_visible_until": None, "backlog": False}


def test_a_list_that_is_filtered_is_swept_only_as_far_as_it_changed_and_each_record_counts_once(
    start_sandbox: StartSandbox, database: Database
) -> None:
    pair = Pair(start_sandbox(transactions=60, contacts=0, **UNSORTED), database)
    pair.note(sorts_by_updated_at=False)
    assert pair.sync(mode=Mode.FULL) == 60
    assert one(database, "select records_processed from softpro.sync_logs") == 60
    assert pair.sync() == 0
    pair.change(4, sameTimestamp=True)
    before = pair.requests()
    assert pair.sync() == 4
    assert pair.requests() - before == 1
    assert pair.sync(mode=Mode.FULL) >= 60
    assert one(database, "select max(records_processed) from softpro.sync_logs") == 60
    pair.assert_equal()


def test_a_sweep_resumes_after_the_last_landed_page(start_sandbox: StartSandbox, database: Database) -> None:
    pair = Pair(start_sandbox(transactions=60, contacts=0, **UNFILTERED, **UNSORTED), database)
    pair.note(sorts_by_updated_at=False, filters_updated_from=False)
    run = begin(pair.services, pair.integration, mode=Mode.FULL)
    for first_slice in (True, False, False):
        assert pipeline.extract(pair.services, run, seconds=0, first_slice=first_slice).backlog
    pipeline.fail(database, run, RuntimeError("interrupted"))
    (cursor,) = rows(database, "select page_offset, sweep_mode, backlog, sweep_visible_until from softpro.cursors")
    assert (cursor["page_offset"], cursor["sweep_mode"], cursor["backlog"]) == (27, "full", True)
    assert cursor["sweep_visible_until"] is not None
    assert pair.sync() == 60 - 28
    assert one(database, "select max(records_processed) from softpro.sync_logs") == 60
    pair.assert_equal()


@pytest.mark.parametrize("ignored", [UNFILTERED, UNSORTED, UNFILTERED | UNSORTED])
def test_a_vendor_that_changes_its_ways_in_the_middle_of_a_run_and_back_costs_no_record(
    ignored: dict[str, bool], start_sandbox: StartSandbox, database: Database
) -> None:
    pair = Pair(start_sandbox(transactions=60, contacts=0), database)
    run = begin(pair.services, pair.integration)
    assert pipeline.extract(pair.services, run, seconds=0).backlog
    pair.sandbox.switch(**ignored)
    pipeline.fail(database, run, RuntimeError("interrupted"))
    pair.change(20)
    pair.sync()
    pair.assert_equal()
    pair.change(20)
    pair.sync()
    pair.assert_equal()

    # And back, as a probe finds during a sweep.
    run = begin(pair.services, pair.integration, mode=Mode.DELTA)
    assert pipeline.extract(pair.services, run, seconds=0).backlog
    pair.sandbox.switch(**dict.fromkeys(ignored, True))
    pair.note(sorts_by_updated_at=True, filters_updated_from=True)
    pipeline.fail(database, run, RuntimeError("interrupted"))
    pair.change(20)
    pair.sync()
    pair.assert_equal()
    pair.change(5)
    pair.sync()
    pair.assert_equal()


@pytest.mark.parametrize("ignored", [UNFILTERED, UNSORTED, UNFILTERED | UNSORTED])
def test_a_run_ends_though_records_change_with_every_page(
    ignored: dict[str, bool], start_sandbox: StartSandbox, database: Database
) -> None:
    pair = Pair(start_sandbox(transactions=60, contacts=0, changeWhilePaging=2, **ignored), database)
    pair.sync()
    pair.change(40)
    pair.sync()
    pair.sandbox.switch(changeWhilePaging=0)
    pair.sync()
    assert pair.requests() < 200
    pair.assert_equal()


def test_no_page_is_longer_than_the_vendor_gives(start_sandbox: StartSandbox, database: Database) -> None:
    pair = Pair(start_sandbox(transactions=60, contacts=0, maxPageSize=7), database)
    pair.note(page_limit=7)
    assert pair.sync() == 60
    pair.assert_equal()


def test_unknown_capabilities_default_to_the_contract(start_sandbox: StartSandbox, database: Database) -> None:
    pair = Pair(start_sandbox(transactions=1, contacts=0), database)
    with database.connect() as connection:
        assert capabilities.read(connection, pair.integration.id) == Capabilities()
        pair.note(sends_etags=False)
        pair.note(page_limit=100)
        assert capabilities.read(connection, pair.integration.id) == Capabilities(sends_etags=False, page_limit=100)
    assert one(database, "select organization_id from softpro.capabilities") == "acme"


@pytest.mark.parametrize("ties", ["ascending", "descending", "guid"])
def test_no_order_of_ties_loses_a_record_while_others_change(
    ties: str, start_sandbox: StartSandbox, database: Database
) -> None:
    pair = Pair(start_sandbox(transactions=300, contacts=1, ties=ties), database)
    pair.sandbox.switch(clockSkewSeconds=-3600)
    pair.change(280, sameTimestamp=True)
    pair.sandbox.switch(clockSkewSeconds=0, changeWhilePaging=2)
    pair.sync()
    pair.sandbox.switch(changeWhilePaging=0)
    pair.sync()
    pair.assert_equal()


def test_a_full_page_that_denies_what_its_total_says_fails_the_run_and_loses_nothing(
    start_sandbox: StartSandbox, database: Database
) -> None:
    pair = Pair(start_sandbox(transactions=45, contacts=1, announceMore=False), database)
    log = sync(pair.services, pair.integration)
    assert log.status == "FAILED"
    assert "the page contradicts itself" in (log.error_message or "")
    assert "10 of 45 records were listed" in (log.error_message or "")
    pair.sandbox.switch(announceMore=True)
    pair.sync()
    pair.assert_equal()
