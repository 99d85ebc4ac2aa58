"""Hold a batch that is wrong as a whole: nothing of it loads before a decision."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

import pytest

from softpro.db.integrations import Integration
from softpro.entities import Mode
from softpro.errors import AlreadyDecided, BatchHeld, LeaseHeld, NotFoundHere
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.quality import holds, quarantine_cases
from softpro.runs import pipeline
from softpro.services import Services
from softpro.sync.corrections import correct

from ..support.database_state import leftovers
from ..support.databases import dump, execute, one, rows
from ..support.expected_rows import actual_rows, expected_rows
from ..support.held_batches import (
    CONTACT,
    LATEST,
    NULL,
    OPEN_CASES,
    PENDING,
    Interrupted,
    approve,
    list_holds,
    map_contacts,
    reject,
    remap,
    replay,
)
from ..support.product import begin, quality_settings, sync
from ..support.sandbox import Sandbox


def test_a_mapping_that_empties_a_column_holds_the_remap_and_once_approved_the_next_run_loads_it(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, _ = loaded
    database = services.database
    before = dump(database)["roi.contacts"]
    having = one(database, "select count(email) from roi.contacts")
    map_contacts(services, acme, email="nowhere.to.be.found")

    log = remap(services, acme)

    (hold,) = list_holds(services, acme)
    message = f"email is null in all 150 records, and {having} of the 150 rows they replace have it"
    assert hold.findings == [{"column": "email", "rule": NULL, "message": message}]
    assert (hold.status, hold.records, hold.log_id, hold.entity_type) == ("WAITING", 150, log.id, "CONTACT")
    assert (log.status, log.records_processed) == ("FAILED", 0)
    assert log.error_message == (
        f"The batch of 150 contacts of acme is held, and nothing of it was loaded: {message}. If the batch is correct, "
        f"run `python -m softpro holds approve acme {hold.id}` or approve it in Airflow. Otherwise run `holds reject`, "
        "or correct the cause: the next run checks again"
    )
    assert dump(database)["roi.contacts"] == before
    assert one(database, PENDING) == 150

    again = sync(services, acme, CONTACT)
    assert (again.status, again.next_retry_at is not None) == ("FAILED", True)
    (waiting,) = list_holds(services, acme)
    assert (waiting.id, waiting.status, waiting.log_id) == (hold.id, "WAITING", again.id)
    due = "select next_attempt_at <= now() as due from softpro.cursors"
    assert not one(database, due)

    message = "select last_error_message from softpro.integrations"
    assert str(hold.id) in one(database, message)
    approve(services, acme, hold, "we no longer keep them")
    assert one(database, message) is None
    assert one(database, due)
    assert one(database, "select next_attempt_at <= now() from softpro.integrations")
    assert one(database, PENDING) == 150
    log = sync(services, acme, CONTACT)

    assert (log.status, log.records_updated) == ("COMPLETED", having)
    assert one(database, "select count(email) from roi.contacts") == 0
    (hold,) = list_holds(services, acme)
    assert (hold.status, hold.decided_by, hold.reason) == ("LOADED", "Ann", "we no longer keep them")
    assert leftovers(database) == {}
    # The column is empty from now on, and no further approval is needed.
    assert remap(services, acme).status == "COMPLETED"


def test_a_corrected_batch_clears_its_hold(loaded: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, sandbox = loaded
    map_contacts(services, acme, email="nowhere", phone="neither.here")
    assert remap(services, acme).status == "FAILED"
    (hold,) = list_holds(services, acme)
    assert [finding["column"] for finding in hold.findings] == ["email", "phone"]

    map_contacts(services, acme)
    log = sync(services, acme, CONTACT)

    assert (log.status, log.records_processed, log.records_updated) == ("COMPLETED", 150, 0)
    (hold,) = list_holds(services, acme)
    assert (hold.status, hold.decided_by) == ("CLEARED", None)
    (organization,) = sandbox.organizations
    assert actual_rows(services.database, "acme", "CONTACT") == expected_rows(
        sandbox.records(organization, "CONTACT"), "CONTACT"
    )


def test_rejected_records_are_quarantined_until_softpro_changes_them_or_a_replay(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, sandbox = loaded
    database = services.database
    before = dump(database)["roi.contacts"], dump(database)["raw.records"]
    map_contacts(services, acme, email="nowhere")
    log = remap(services, acme)
    (hold,) = list_holds(services, acme)

    rejected = reject(services, acme, hold, "a typing error")

    assert (rejected.status, rejected.decided_by, rejected.reason) == ("REJECTED", "Ann", "a typing error")
    assert one(database, PENDING) == 0
    assert (dump(database)["roi.contacts"], dump(database)["raw.records"]) == before
    reason = {"column": None, "rule": "held", "message": f"rejected by Ann: a typing error; {hold.summary}"}
    quarantine_cases = rows(
        database,
        """
        select entity_id, reasons, mapping_version, log_id, resolution,
               r.payload = convert_from(q.payload, 'UTF8')::jsonb and r.payload_hash = q.payload_hash as same
        from softpro.quarantine q join raw.records r using (integration_id, entity_type, entity_id)
        """,
    )
    assert len(quarantine_cases) == 150
    for case in quarantine_cases:
        assert (case["reasons"], case["log_id"], case["resolution"], case["same"]) == ([reason], log.id, None, True)
        assert case["mapping_version"] == log.mapping_version == 2

    map_contacts(services, acme)
    assert sync(services, acme, CONTACT).records_processed == 0
    (organization,) = sandbox.organizations
    changed = set(sandbox.change(organization, "CONTACT", 3))
    assert sync(services, acme, CONTACT).records_processed == len(changed)
    assert one(database, OPEN_CASES) == 150 - len(changed)
    replayed = replay(services, acme)
    assert (replayed.status, replayed.records_processed) == ("COMPLETED", 150 - len(changed))
    assert one(database, OPEN_CASES) == 0
    assert remap(services, acme).records_processed == 150


def test_records_landed_after_the_hold_are_not_rejected_with_it(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, sandbox = loaded
    database = services.database
    map_contacts(services, acme, email="nowhere")
    remap(services, acme)
    (hold,) = list_holds(services, acme)
    (organization,) = sandbox.organizations
    sandbox.put(organization, json.dumps({"contactId": "new", "updatedAt": LATEST}).encode(), "CONTACT")
    changed = set(sandbox.change(organization, "CONTACT", 3))
    run = begin(services, acme, CONTACT)
    assert pipeline.extract(services, run).fetched == len(changed) + 1
    pipeline.fail(database, run, Interrupted())

    reject(services, acme, hold, "not seen")

    pending = {row["entity_id"] for row in rows(database, "select entity_id from raw.pending")}
    assert pending == {"new", *changed}
    assert one(database, OPEN_CASES) == 150 - len(changed)
    assert sync(services, acme, CONTACT).records_processed == len(changed) + 1


def test_a_rejected_batch_reopens_no_discarded_case_and_keeps_a_correction(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, sandbox = loaded
    database = services.database
    (organization,) = sandbox.organizations
    for name in ("discarded", "corrected"):
        record = {"contactId": name, "lastName": 7, "updatedAt": LATEST}
        sandbox.put(organization, json.dumps({**record, "email": []}).encode(), "CONTACT")
    assert sync(services, acme, CONTACT).records_failed == 2
    ids = {row["entity_id"]: row["id"] for row in rows(database, "select id, entity_id from softpro.quarantine")}
    with database.connect() as connection:
        quarantine_cases.discard(connection, ids["discarded"], "a test", "ben")
    corrected = {"contactId": "corrected", "updatedAt": LATEST}
    with database.connect() as connection:
        correct(connection, ids["corrected"], json.dumps(corrected).encode(), "ann")
    map_contacts(services, acme, email="nowhere")
    remap(services, acme)
    (hold,) = list_holds(services, acme)

    reject(services, acme, hold)

    found = {row["entity_id"]: row for row in rows(database, "select * from softpro.quarantine")}
    assert len(found) == 152
    assert (found["discarded"]["resolution"], found["discarded"]["resolution_reason"]) == ("DISCARDED", "a test")
    assert (found["corrected"]["resolution"], found["corrected"]["edited_by"]) == (None, "ann")
    assert found["corrected"]["payload_hash"] != found["corrected"]["edited_hash"]
    assert found["corrected"]["reasons"][0]["message"] == f"rejected by Ann; {hold.summary}"
    map_contacts(services, acme)
    replay(services, acme)
    assert one(database, OPEN_CASES) == 0
    assert one(database, "select resolution from softpro.quarantine where entity_id = 'corrected'") == "EDITED"


def test_other_findings_are_another_hold(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, _ = loaded
    map_contacts(services, acme, email="nowhere")
    remap(services, acme)
    (first,) = list_holds(services, acme)
    approve(services, acme, first)
    map_contacts(services, acme, email="nowhere", phone="neither.here")

    assert sync(services, acme, CONTACT).status == "FAILED"

    second, was = list_holds(services, acme)
    assert (was.id, was.status, was.decided_by) == (first.id, "CLEARED", "Ann")
    assert (second.status, {finding["column"] for finding in second.findings}) == ("WAITING", {"email", "phone"})
    with pytest.raises(AlreadyDecided, match=r"is CLEARED by Ann: nothing is left to decide"):
        approve(services, acme, first)
    # Fewer records than approved need no new approval.
    approve(services, acme, second)
    map_contacts(services, acme, phone="nowhere")
    assert sync(services, acme, CONTACT).status == "COMPLETED"
    assert list_holds(services, acme)[0].status == "LOADED"


@pytest.mark.parametrize(("more", "status"), [(250, "LOADED"), (251, "WAITING")])
def test_a_batch_that_is_much_larger_than_the_one_that_was_approved_is_another_hold(
    loaded: tuple[Services, Integration, Sandbox], more: int, status: str
) -> None:
    services, acme, sandbox = loaded
    map_contacts(services, acme, email="nowhere")
    remap(services, acme)
    (hold,) = list_holds(services, acme)
    approve(services, acme, hold)
    for number in range(more):
        new = {"contactId": f"new-{number}", "updatedAt": LATEST}
        sandbox.put(sandbox.organizations[0], json.dumps(new).encode(), "CONTACT")

    sync(services, acme, CONTACT)

    newest, *older = list_holds(services, acme)
    assert newest.status == status
    if status == "WAITING":
        assert (newest.records, newest.about) == (401, hold.about)
        assert [(each.id, each.status, each.decided_by) for each in older] == [(hold.id, "CLEARED", "Ann")]


def test_a_custom_field_that_is_suddenly_null_is_found_too(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, _ = loaded
    region = Mapping(CONTACT, "contactType", "custom.the {kind}", "SOFTPRO_TO_ROI")
    with services.database.connect() as connection:
        repository.replace(connection, acme.id, "acme", [*default_mappings(CONTACT), region], "the test")
    assert remap(services, acme).status == "COMPLETED"
    with services.database.connect() as connection:
        gone = replace(region, softpro_field="contactKind")
        repository.replace(connection, acme.id, "acme", [*default_mappings(CONTACT), gone], "the test")

    assert remap(services, acme).status == "FAILED"

    (hold,) = list_holds(services, acme)
    assert hold.about == {("custom.the {kind}", NULL)}


def test_neither_a_small_batch_nor_one_whose_records_are_rejected_is_held(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, sandbox = loaded
    (organization,) = sandbox.organizations
    map_contacts(services, acme, email="nowhere")
    changed = sandbox.change(organization, "CONTACT", 99)
    assert sync(services, acme, CONTACT).records_processed == len(set(changed))
    with services.database.connect() as connection:  # a column is null where its rule fails
        ruled = Mapping(CONTACT, "email", "phone", "SOFTPRO_TO_ROI", '$error("never")')
        others = [mapping for mapping in default_mappings(CONTACT) if mapping.roi_systems_field != "phone"]
        repository.replace(connection, acme.id, "acme", [*others, ruled], "the test")
    log = remap(services, acme)
    assert (log.status, log.records_failed) == ("PARTIAL_SUCCESS", 150)
    assert list_holds(services, acme) == []


def test_duplicate_keys_hold_the_batch(loaded: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, _ = loaded
    database = services.database
    run = begin(services, acme, CONTACT, Mode.REMAP)
    pipeline.mark(database, run)
    pipeline.transform(database, run)
    execute(database, "insert into staging.contacts select * from staging.contacts order by softpro_contact_id limit 2")

    with pytest.raises(BatchHeld, match="softpro_contact_id: 4 of 152 records share their value with another record"):
        pipeline.check(database, run, quality_settings())

    (hold,) = list_holds(services, acme)
    assert hold.about == {("softpro_contact_id", "expect_column_values_to_be_unique")}
    pipeline.fail(database, run, Interrupted())
    assert sync(services, acme, CONTACT).status == "COMPLETED"
    assert list_holds(services, acme)[0].status == "CLEARED"


def test_a_batch_that_a_run_is_loading_can_not_be_rejected(loaded: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, _ = loaded
    map_contacts(services, acme, email="nowhere")
    remap(services, acme)
    (hold,) = list_holds(services, acme)
    run = begin(services, acme, CONTACT)
    with pytest.raises(LeaseHeld):
        reject(services, acme, hold)
    assert list_holds(services, acme) == [hold]
    pipeline.fail(services.database, run, Interrupted())
    assert reject(services, acme, hold).status == "REJECTED"


def test_a_hold_is_its_own_integrations_alone(loaded: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, _ = loaded
    map_contacts(services, acme, email="nowhere")
    remap(services, acme)
    (hold,) = list_holds(services, acme)
    for decide in (holds.approve, holds.reject):
        with services.database.connect() as connection, pytest.raises(NotFoundHere):
            decide(connection, UUID(int=1), hold.id, "Eve", None)
    assert list_holds(services, acme) == [hold]


def test_many_new_records_may_lack_what_the_older_ones_have(loaded: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, sandbox = loaded
    for number in range(120):
        new = {"contactId": f"new-{number}", "lastName": "Lee", "updatedAt": "2030-01-01T00:00:00.000Z"}
        sandbox.put(sandbox.organizations[0], json.dumps(new).encode(), "CONTACT")
    log = sync(services, acme, CONTACT)
    assert (log.status, log.records_inserted) == ("COMPLETED", 120)
    assert list_holds(services, acme) == []
