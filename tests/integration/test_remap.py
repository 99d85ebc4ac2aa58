"""Apply changed mappings to all landed records without a call to SoftPro."""

from __future__ import annotations

from dataclasses import replace

from softpro.db.integrations import Integration
from softpro.db.sync_logs import SyncLog
from softpro.entities import EntityType, SyncType
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.runs import sync as runs_sync
from softpro.services import Services

from ..support.databases import dump, execute, one, rows
from ..support.fixture_types import Connected
from ..support.product import command, quality_settings, sync
from ..support.sandbox import Sandbox

CONTACT = EntityType.CONTACT


def give(services: Services, integration: Integration, mappings: list[Mapping]) -> None:
    with services.database.connect() as connection:
        repository.replace(connection, integration.id, integration.organization_id, mappings, "a test")


def remap(services: Services, integration: Integration, run_id: str = "remap") -> SyncLog:
    return runs_sync.remap(
        services.database, integration, CONTACT, sync_type=SyncType.MANUAL, run_id=run_id, quality=quality_settings()
    )


def in_capitals(column: str) -> list[Mapping]:
    return [
        replace(mapping, transformation_rule="$ ? $uppercase($)", direction="SOFTPRO_TO_ROI")
        if mapping.roi_systems_field == column
        else mapping
        for mapping in default_mappings(CONTACT)
    ]


def test_a_changed_mapping_is_applied_to_all_rows_with_history_and_without_a_call(
    services: Services, sandbox: Sandbox, connected: Connected, vendor_organization: str
) -> None:
    acme = connected("acme")
    assert sync(services, acme, CONTACT).status == "COMPLETED"
    before = rows(services.database, "select softpro_contact_id, last_name from roi.contacts order by 1")
    calls = sandbox.requests_of(vendor_organization)
    give(services, acme, in_capitals("last_name"))

    log = remap(services, acme)

    assert sandbox.requests_of(vendor_organization) == calls
    named = [row for row in before if row["last_name"] and row["last_name"] != row["last_name"].upper()]
    assert (log.status, log.mode, log.reason) == ("COMPLETED", "remap", "maps every stored record again")
    assert (log.records_fetched, log.records_processed, log.api_requests) == (0, len(before), 0)
    assert log.records_updated == len(named)
    assert rows(services.database, "select softpro_contact_id, last_name from roi.contacts order by 1") == [
        {**row, "last_name": row["last_name"] and row["last_name"].upper()} for row in before
    ]
    assert rows(
        services.database,
        "select softpro_contact_id, last_name, changed_fields from roi.contacts_history order by 1",
    ) == [{**row, "changed_fields": ["last_name"]} for row in named]


def test_where_nothing_changed_it_writes_no_row_and_the_stream_keeps_its_clock(
    services: Services, connected: Connected
) -> None:
    acme = connected("acme")
    sync(services, acme, CONTACT)
    clock = "select last_synced_at, updated_from from softpro.cursors"
    before, synced = dump(services.database, versions=True), rows(services.database, clock)

    assert remap(services, acme).records_processed == 12

    after = dump(services.database, versions=True)
    same = [name for name in before if name.startswith(("raw.records", "roi."))]
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert rows(services.database, clock) == synced


def test_records_that_a_mapping_breaks_go_to_quarantine_and_return(services: Services, connected: Connected) -> None:
    acme = connected("acme")
    sync(services, acme, CONTACT)
    bad = [
        replace(mapping, transformation_rule='$error("never")', direction="SOFTPRO_TO_ROI")
        if mapping.roi_systems_field == "notes"
        else mapping
        for mapping in default_mappings(CONTACT)
    ]
    give(services, acme, bad)
    log = remap(services, acme, "worse")
    assert (log.status, log.records_failed) == ("PARTIAL_SUCCESS", 12)
    assert one(services.database, "select count(*) from softpro.quarantine where resolved_at is null") == 12

    give(services, acme, default_mappings(CONTACT))
    assert remap(services, acme, "better").status == "COMPLETED"
    assert one(services.database, "select count(*) from softpro.quarantine where resolved_at is null") == 0


def test_a_deleted_record_stays_deleted(services: Services, connected: Connected) -> None:
    acme = connected("acme")
    sync(services, acme, CONTACT)
    gone = one(services.database, "select min(entity_id) from raw.records")
    execute(services.database, "update raw.records set deleted_at = now() where entity_id = %s", gone)
    execute(services.database, "update roi.contacts set deleted_at = now() where softpro_contact_id = %s", gone)

    assert remap(services, acme).records_processed == 11

    assert one(services.database, "select count(*) from roi.contacts where deleted_at is not null") == 1


def test_it_needs_no_grant_and_the_command_does_it(
    services: Services, connected: Connected, settings: dict[str, str]
) -> None:
    acme = connected("acme")
    sync(services, acme, CONTACT)
    execute(services.database, "update softpro.integrations set status = 'EXPIRED'")
    answer = command(settings, "remap", "acme", "--entity", "contacts")
    assert answer.code == 0, answer.err
    assert answer.out.startswith("contacts COMPLETED: 0 fetched, 12 loaded (0 new, 0 changed, 12 unchanged)")
