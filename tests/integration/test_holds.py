"""A batch that is wrong as a whole is held: nothing of it is loaded until a person decides."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from softpro import pipeline
from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import BatchHeld, DecidedAlready, LeaseHeld, NotFoundHere
from softpro.mapping import sets
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.quality import cases, holds
from softpro.quality.holds import Hold
from softpro.services import Services
from softpro.store.database import Database
from softpro.store.integrations import Integration
from softpro.store.logs import SyncLog
from softpro.sync.edit import edit

from ..support.databases import dump, execute, one, rows
from ..support.expected import actual_rows, expected_rows
from ..support.kinds import StartSandbox
from ..support.product import begin, between, command, environment, sync
from ..support.state import left_over
from ..support.vendor import Sandbox

CONTACT, TRANSACTION = EntityType.CONTACT, EntityType.TRANSACTION
NULL = "expect_column_proportion_of_non_null_values_to_be_between"
ROW_COUNT = "expect_table_row_count_to_be_between"
PENDING = "select count(*) from raw.pending"
OPEN_CASES = "select count(*) from softpro.quarantine where resolved_at is null"
LATEST = "2030-01-01T00:00:00.000Z"
SWEEP_TOTAL = "select sweep_total from softpro.cursors"


class Held(RuntimeError):
    """Stands in for whatever ends a run."""


@pytest.fixture
def loaded(start_sandbox: StartSandbox, database: Database) -> tuple[Services, Integration, Sandbox]:
    """150 contacts, loaded once."""
    sandbox = start_sandbox(transactions=0, contacts=150)
    services, acme = between(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="200")
    assert sync(services, acme, CONTACT).records_inserted == 150
    return services, acme, sandbox


def give(services: Services, acme: Integration, **fields: str) -> None:
    """The default set of contacts, these columns filled from other fields."""
    mappings = [
        replace(mapping, softpro_field=fields.get(mapping.roi_systems_field, mapping.softpro_field))
        for mapping in default_mappings(CONTACT)
    ]
    with services.database.connect() as connection:
        sets.replace(connection, acme.id, "acme", mappings, "the test")


def remap(services: Services, acme: Integration) -> SyncLog:
    return pipeline.remap(services.database, acme, CONTACT, sync_type=SyncType.MANUAL, run_id=f"test__{uuid4()}")


def replay(services: Services, acme: Integration) -> SyncLog:
    return pipeline.replay(services.database, acme, CONTACT, sync_type=SyncType.MANUAL, run_id=f"test__{uuid4()}")


def all_holds(services: Services, acme: Integration) -> list[Hold]:
    """The newest first."""
    with services.database.connect() as connection:
        return holds.page(connection, acme.id, list(holds.Status), 100, 0)[0]


def approve(services: Services, acme: Integration, hold: Hold, reason: str | None = None) -> Hold:
    with services.database.connect() as connection:
        return holds.approve(connection, acme.id, hold.id, "Ann", reason)


def reject(services: Services, acme: Integration, hold: Hold, reason: str | None = None) -> Hold:
    with services.database.connect() as connection:
        return holds.reject(connection, acme.id, hold.id, "Ann", reason)


def test_a_mapping_that_empties_a_column_holds_the_remap_and_once_approved_the_next_run_loads_it(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, _ = loaded
    database = services.database
    before = dump(database)["roi.contacts"]
    having = one(database, "select count(email) from roi.contacts")
    give(services, acme, email="nowhere.to.be.found")

    log = remap(services, acme)

    (hold,) = all_holds(services, acme)
    message = f"email is null in all 150 records, and {having} of the 150 rows they replace have it"
    assert hold.findings == [{"column": "email", "rule": NULL, "message": message}]
    assert (hold.status, hold.records, hold.log_id, hold.entity_type) == ("WAITING", 150, log.id, "CONTACT")
    assert (log.status, log.records_processed) == ("FAILED", 0)
    assert log.error_message == (
        f"The batch of 150 contacts of acme is held, and nothing of it was loaded: {message}. If that is right, run "
        f"`python -m softpro holds approve acme {hold.id}`, or answer in Airflow; if it is not, `holds reject`, or "
        "mend what is wrong: the next run looks again"
    )
    assert dump(database)["roi.contacts"] == before
    assert one(database, PENDING) == 150

    again = sync(services, acme, CONTACT)
    assert (again.status, again.next_retry_at is not None) == ("FAILED", True)
    (waiting,) = all_holds(services, acme)
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
    (hold,) = all_holds(services, acme)
    assert (hold.status, hold.decided_by, hold.reason) == ("LOADED", "Ann", "we no longer keep them")
    assert left_over(database) == {}
    # From now on the column is empty, and nobody is asked any more.
    assert remap(services, acme).status == "COMPLETED"


def test_what_is_mended_clears_the_hold_by_itself(loaded: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, sandbox = loaded
    give(services, acme, email="nowhere", phone="neither.here")
    assert remap(services, acme).status == "FAILED"
    (hold,) = all_holds(services, acme)
    assert [finding["column"] for finding in hold.findings] == ["email", "phone"]

    give(services, acme)
    log = sync(services, acme, CONTACT)

    assert (log.status, log.records_processed, log.records_updated) == ("COMPLETED", 150, 0)
    (hold,) = all_holds(services, acme)
    assert (hold.status, hold.decided_by) == ("CLEARED", None)
    (organization,) = sandbox.organizations
    assert actual_rows(services.database, "acme", "CONTACT") == expected_rows(
        sandbox.records(organization, "CONTACT"), "CONTACT"
    )


def test_what_is_rejected_is_in_quarantine_until_softpro_changes_it_or_it_is_replayed(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, sandbox = loaded
    database = services.database
    before = dump(database)["roi.contacts"], dump(database)["raw.records"]
    give(services, acme, email="nowhere")
    log = remap(services, acme)
    (hold,) = all_holds(services, acme)

    rejected = reject(services, acme, hold, "a typing error")

    assert (rejected.status, rejected.decided_by, rejected.reason) == ("REJECTED", "Ann", "a typing error")
    assert one(database, PENDING) == 0
    assert (dump(database)["roi.contacts"], dump(database)["raw.records"]) == before
    told = {"column": None, "rule": "held", "message": f"rejected by Ann: a typing error; {hold.told}"}
    cases = rows(
        database,
        """
        select entity_id, reasons, mapping_version, log_id, resolution,
               r.payload = convert_from(q.payload, 'UTF8')::jsonb and r.payload_hash = q.payload_hash as same
        from softpro.quarantine q join raw.records r using (integration_id, entity_type, entity_id)
        """,
    )
    assert len(cases) == 150
    for case in cases:
        assert (case["reasons"], case["log_id"], case["resolution"], case["same"]) == ([told], log.id, None, True)
        assert case["mapping_version"] == log.mapping_version == 2

    give(services, acme)
    assert sync(services, acme, CONTACT).records_processed == 0
    (organization,) = sandbox.organizations
    changed = set(sandbox.change(organization, "CONTACT", 3))
    assert sync(services, acme, CONTACT).records_processed == len(changed)
    assert one(database, OPEN_CASES) == 150 - len(changed)
    replayed = replay(services, acme)
    assert (replayed.status, replayed.records_processed) == ("COMPLETED", 150 - len(changed))
    assert one(database, OPEN_CASES) == 0
    assert remap(services, acme).records_processed == 150


def test_what_landed_after_the_batch_was_found_is_not_rejected_with_it(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, sandbox = loaded
    database = services.database
    give(services, acme, email="nowhere")
    remap(services, acme)
    (hold,) = all_holds(services, acme)
    (organization,) = sandbox.organizations
    sandbox.put(organization, json.dumps({"contactId": "new", "updatedAt": LATEST}).encode(), "CONTACT")
    changed = set(sandbox.change(organization, "CONTACT", 3))
    run = begin(services, acme, CONTACT)
    assert pipeline.extract(services, run).fetched == len(changed) + 1
    pipeline.fail(database, run, Held())

    reject(services, acme, hold, "not seen")

    pending = {row["entity_id"] for row in rows(database, "select entity_id from raw.pending")}
    assert pending == {"new", *changed}
    assert one(database, OPEN_CASES) == 150 - len(changed)
    assert sync(services, acme, CONTACT).records_processed == len(changed) + 1


def test_a_rejected_batch_opens_no_case_that_a_person_has_discarded_and_keeps_a_correction_beside_its_record(
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
        cases.discard(connection, ids["discarded"], "a test", "ben")
    mended = {"contactId": "corrected", "updatedAt": LATEST}
    with database.connect() as connection:
        edit(connection, ids["corrected"], json.dumps(mended).encode(), "ann")
    give(services, acme, email="nowhere")
    remap(services, acme)
    (hold,) = all_holds(services, acme)

    reject(services, acme, hold)

    found = {row["entity_id"]: row for row in rows(database, "select * from softpro.quarantine")}
    assert len(found) == 152
    assert (found["discarded"]["resolution"], found["discarded"]["resolution_reason"]) == ("DISCARDED", "a test")
    assert (found["corrected"]["resolution"], found["corrected"]["edited_by"]) == (None, "ann")
    assert found["corrected"]["payload_hash"] != found["corrected"]["edited_hash"]
    assert found["corrected"]["reasons"][0]["message"] == f"rejected by Ann; {hold.told}"
    give(services, acme)
    replay(services, acme)
    assert one(database, OPEN_CASES) == 0
    assert one(database, "select resolution from softpro.quarantine where entity_id = 'corrected'") == "EDITED"


def test_other_findings_are_another_hold_so_that_nobody_approves_what_he_has_not_seen(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, _ = loaded
    give(services, acme, email="nowhere")
    remap(services, acme)
    (first,) = all_holds(services, acme)
    approve(services, acme, first)
    give(services, acme, email="nowhere", phone="nowhere")

    assert sync(services, acme, CONTACT).status == "FAILED"

    second, was = all_holds(services, acme)
    assert (was.id, was.status, was.decided_by) == (first.id, "CLEARED", "Ann")
    assert (second.status, {finding["column"] for finding in second.findings}) == ("WAITING", {"email", "phone"})
    with pytest.raises(DecidedAlready, match=r"is CLEARED by Ann: there is nothing to decide any more"):
        approve(services, acme, first)
    # Fewer than were approved need no other approval.
    approve(services, acme, second)
    give(services, acme, phone="nowhere")
    assert sync(services, acme, CONTACT).status == "COMPLETED"
    assert all_holds(services, acme)[0].status == "LOADED"


@pytest.mark.parametrize(("more", "status"), [(250, "LOADED"), (251, "WAITING")])
def test_a_batch_that_is_much_larger_than_the_one_that_was_approved_is_another_hold(
    loaded: tuple[Services, Integration, Sandbox], more: int, status: str
) -> None:
    services, acme, sandbox = loaded
    give(services, acme, email="nowhere")
    remap(services, acme)
    (hold,) = all_holds(services, acme)
    approve(services, acme, hold)
    for number in range(more):
        new = {"contactId": f"new-{number}", "updatedAt": LATEST}
        sandbox.put(sandbox.organizations[0], json.dumps(new).encode(), "CONTACT")

    sync(services, acme, CONTACT)

    newest, *older = all_holds(services, acme)
    assert newest.status == status
    if status == "WAITING":
        assert (newest.records, newest.about) == (401, hold.about)
        assert [(each.id, each.status, each.decided_by) for each in older] == [(hold.id, "CLEARED", "Ann")]


def test_a_custom_field_that_is_suddenly_null_is_found_too(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, _ = loaded
    region = Mapping(CONTACT, "contactType", "custom.the {kind}")
    with services.database.connect() as connection:
        sets.replace(connection, acme.id, "acme", [*default_mappings(CONTACT), region], "the test")
    assert remap(services, acme).status == "COMPLETED"
    with services.database.connect() as connection:
        gone = replace(region, softpro_field="contactKind")
        sets.replace(connection, acme.id, "acme", [*default_mappings(CONTACT), gone], "the test")

    assert remap(services, acme).status == "FAILED"

    (hold,) = all_holds(services, acme)
    assert hold.about == {("custom.the {kind}", NULL)}


def test_neither_a_small_batch_nor_one_whose_records_are_rejected_is_held(
    loaded: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, sandbox = loaded
    (organization,) = sandbox.organizations
    give(services, acme, email="nowhere")
    changed = sandbox.change(organization, "CONTACT", 99)
    assert sync(services, acme, CONTACT).records_processed == len(set(changed))
    with services.database.connect() as connection:  # a column is null where its rule fails
        ruled = Mapping(CONTACT, "email", "phone", "SOFTPRO_TO_ROI", '$error("never")')
        others = [mapping for mapping in default_mappings(CONTACT) if mapping.roi_systems_field != "phone"]
        sets.replace(connection, acme.id, "acme", [*others, ruled], "the test")
    log = remap(services, acme)
    assert (log.status, log.records_failed) == ("PARTIAL_SUCCESS", 150)
    assert all_holds(services, acme) == []


def test_keys_that_are_there_twice_hold_the_batch(loaded: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, _ = loaded
    database = services.database
    run = begin(services, acme, CONTACT, Mode.REMAP)
    pipeline.mark(database, run)
    pipeline.transform(database, run)
    execute(database, "insert into staging.contacts select * from staging.contacts order by softpro_contact_id limit 2")

    with pytest.raises(BatchHeld, match="softpro_contact_id: 4 of 152 records share theirs with another one"):
        pipeline.check(database, run)

    (hold,) = all_holds(services, acme)
    assert hold.about == {("softpro_contact_id", "expect_column_values_to_be_unique")}
    pipeline.fail(database, run, Held())
    assert sync(services, acme, CONTACT).status == "COMPLETED"
    assert all_holds(services, acme)[0].status == "CLEARED"


@pytest.fixture
def many(start_sandbox: StartSandbox, database: Database) -> tuple[Services, Integration, Sandbox]:
    """1,200 transactions, loaded once."""
    sandbox = start_sandbox(transactions=1_200, contacts=0)
    services, acme = between(database, sandbox, SOFTPRO_SYNC_BATCH_SIZE="200")
    assert sync(services, acme).records_inserted == 1_200
    return services, acme, sandbox


def lose(sandbox: Sandbox, count: int) -> None:
    (organization,) = sandbox.organizations
    for record_id in sorted(sandbox.records(organization))[:count]:
        sandbox.delete(organization, record_id)


def test_a_full_sync_of_a_list_that_fell_by_more_than_the_share_is_held_until_a_person_approves(
    many: tuple[Services, Integration, Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    services, acme, sandbox = many
    database = services.database
    lose(sandbox, 241)

    log = sync(services, acme, mode=Mode.FULL)

    (hold,) = all_holds(services, acme)
    message = "SoftPro's list holds 959 transactions and 1200 stand here: that is more than 20 % fewer"
    finding = {"column": None, "rule": ROW_COUNT, "message": message}
    assert hold.findings == [{**finding, "rows": 1_200, "fallen": 241}]
    assert hold.as_json()["findings"] == [finding]
    assert (log.status, log.records_processed) == ("FAILED", 0)
    assert message in str(log.error_message)
    assert (one(database, PENDING), one(database, SWEEP_TOTAL)) == (959, 959)

    approve(services, acme, hold)
    log = sync(services, acme)

    assert (log.status, log.records_processed) == ("COMPLETED", 959)
    assert all_holds(services, acme)[0].status == "LOADED"
    assert one(database, SWEEP_TOTAL) is None
    assert one(database, "select count(*) from roi.transactions where deleted_at is null") == 1_200
    monkeypatch.setenv("SOFTPRO_ROW_COUNT_FALL_PERCENT", "25")
    assert sync(services, acme, mode=Mode.FULL).status == "COMPLETED"
    assert one(database, SWEEP_TOTAL) is None


@pytest.mark.parametrize(("more", "status"), [(120, "LOADED"), (121, "WAITING")])
def test_a_list_that_falls_much_further_than_was_approved_is_another_hold(
    many: tuple[Services, Integration, Sandbox], more: int, status: str
) -> None:
    services, acme, sandbox = many
    lose(sandbox, 241)
    sync(services, acme, mode=Mode.FULL)
    (hold,) = all_holds(services, acme)
    approve(services, acme, hold)
    lose(sandbox, more)

    log = sync(services, acme, mode=Mode.FULL)

    newest, *older = all_holds(services, acme)
    assert newest.status == status
    if status == "WAITING":
        assert (log.status, [each.status for each in older]) == ("FAILED", ["CLEARED"])
        approve(services, acme, newest)
        assert sync(services, acme).status == "COMPLETED"
        assert all_holds(services, acme)[0].status == "LOADED"


def test_a_list_that_fell_by_no_more_than_the_share_is_loaded(many: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, sandbox = many
    lose(sandbox, 240)
    assert sync(services, acme, mode=Mode.FULL).status == "COMPLETED"
    assert all_holds(services, acme) == []
    assert rows(
        services.database,
        "select records, unexpected, success, level, column_name from softpro.check_results where expectation = %s",
        ROW_COUNT,
    ) == [{"records": 1_200, "unexpected": 0, "success": True, "level": "batch", "column_name": None}]


def test_the_length_of_the_list_is_the_one_of_its_first_page_whichever_run_goes_on_with_the_sweep(
    many: tuple[Services, Integration, Sandbox],
) -> None:
    services, acme, sandbox = many
    database = services.database
    lose(sandbox, 241)
    run = begin(services, acme, mode=Mode.FULL)
    assert pipeline.extract(services, run, seconds=0).backlog
    assert one(database, SWEEP_TOTAL) == 959
    pipeline.fail(database, run, Held())
    lose(sandbox, 1)

    assert sync(services, acme).status == "FAILED"
    (hold,) = all_holds(services, acme)
    assert "list holds 959 transactions" in hold.told
    reject(services, acme, hold)

    assert (one(database, PENDING), one(database, SWEEP_TOTAL)) == (0, None)
    assert sync(services, acme).status == "COMPLETED"
    assert [hold.status for hold in all_holds(services, acme)] == ["REJECTED"]


def test_a_full_sync_that_is_applied_in_parts_is_held_at_the_first_of_them(
    many: tuple[Services, Integration, Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    services, acme, sandbox = many
    monkeypatch.setattr("softpro.beside.LEAST_PART", 100)
    lose(sandbox, 300)
    log = sync(services, acme, mode=Mode.FULL)
    assert (log.status, log.records_processed) == ("FAILED", 0)
    (hold,) = all_holds(services, acme)
    approve(services, acme, hold)
    log = sync(services, acme)
    assert log.status == "COMPLETED"
    assert one(services.database, PENDING) == 0
    assert all_holds(services, acme)[0].status == "LOADED"


def test_a_list_that_is_empty_is_held_although_it_brings_no_batch(many: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, sandbox = many
    lose(sandbox, 1_200)
    assert sync(services, acme, mode=Mode.FULL).status == "FAILED"
    (hold,) = all_holds(services, acme)
    assert (hold.records, hold.about) == (0, {(None, ROW_COUNT)})
    approve(services, acme, hold)
    assert sync(services, acme).status == "COMPLETED"
    assert all_holds(services, acme)[0].status == "LOADED"
    assert one(services.database, SWEEP_TOTAL) is None


def test_a_small_table_may_lose_any_share(loaded: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, sandbox = loaded
    (organization,) = sandbox.organizations
    for record_id in sorted(sandbox.records(organization, "CONTACT"))[:100]:
        sandbox.delete(organization, record_id, "CONTACT")
    assert sync(services, acme, CONTACT, Mode.FULL).status == "COMPLETED"


def test_what_a_run_has_in_its_hands_can_not_be_rejected(loaded: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, _ = loaded
    give(services, acme, email="nowhere")
    remap(services, acme)
    (hold,) = all_holds(services, acme)
    run = begin(services, acme, CONTACT)
    with pytest.raises(LeaseHeld):
        reject(services, acme, hold)
    assert all_holds(services, acme) == [hold]
    pipeline.fail(services.database, run, Held())
    assert reject(services, acme, hold).status == "REJECTED"


def test_a_hold_is_its_own_integrations_alone(loaded: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, _ = loaded
    give(services, acme, email="nowhere")
    remap(services, acme)
    (hold,) = all_holds(services, acme)
    for decide in (holds.approve, holds.reject):
        with services.database.connect() as connection, pytest.raises(NotFoundHere):
            decide(connection, UUID(int=1), hold.id, "Eve", None)
    assert all_holds(services, acme) == [hold]


def test_the_command_line_lists_approves_and_rejects(
    loaded: tuple[Services, Integration, Sandbox], database: Database
) -> None:
    services, acme, sandbox = loaded
    settings = environment(database, sandbox)

    def holds_(*arguments: str) -> Any:
        return command(settings, "holds", *arguments)

    assert (holds_("list", "acme").out, holds_("list", "acme").err) == ("", "Nothing is held\n")
    give(services, acme, email="nowhere")
    failed = command(settings, "remap", "acme", "--entity", "contacts")
    assert failed.code == 1
    (hold,) = all_holds(services, acme)
    assert f"holds approve acme {hold.id}" in failed.err
    (listed,) = holds_("list", "acme", "--json").out.splitlines()
    assert json.loads(listed) == hold.as_json()
    assert holds_("list", "acme").out == f"{hold.line()}\n"
    status = command(settings, "status", "acme")
    assert f"  held (WAITING), 150 records: {hold.told}; see: holds list acme\n" in status.out

    approved = holds_("approve", "acme", str(hold.id), "--reason", "as it should be")
    assert (approved.code, approved.err) == (0, "The next run loads it\n")
    again = holds_("approve", "acme", str(hold.id))
    assert again.code == 2
    assert "there is nothing to decide any more" in again.err
    assert holds_("reject", "acme", str(hold.id), "--reason", "no").code == 2
    assert "--reason" in holds_("reject", "acme", str(hold.id)).err
    assert holds_("approve", "acme", str(UUID(int=1))).code == 2
    assert "HOLD is the id" in holds_("approve", "acme", "x").err
    assert command(settings, "sync", "acme", "--entity", "contacts").code == 0
    assert holds_("list", "acme").err == "Nothing is held\n"
    assert "LOADED by " in holds_("list", "acme", "--status", "LOADED").out
    assert "--status is one of" in holds_("list", "acme", "--status", "OPEN").err

    give(services, acme, phone="nowhere")
    command(settings, "remap", "acme", "--entity", "contacts")
    newest = all_holds(services, acme)[0]
    rejected = holds_("reject", "acme", str(newest.id), "--reason", "a mistake")
    assert (rejected.code, "REJECTED" in rejected.out, "(a mistake)" in rejected.out) == (0, True, True)


def test_many_new_records_may_lack_what_the_older_ones_have(loaded: tuple[Services, Integration, Sandbox]) -> None:
    services, acme, sandbox = loaded
    for number in range(120):
        new = {"contactId": f"new-{number}", "lastName": "Lee", "updatedAt": "2030-01-01T00:00:00.000Z"}
        sandbox.put(sandbox.organizations[0], json.dumps(new).encode(), "CONTACT")
    log = sync(services, acme, CONTACT)
    assert (log.status, log.records_inserted) == ("COMPLETED", 120)
    assert all_holds(services, acme) == []
