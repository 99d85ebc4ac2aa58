"""What could go astray between both sides: edits after a lost answer, deletes that meet edits, pushes side by side."""

from __future__ import annotations

import itertools
import threading
import time
from datetime import UTC, datetime

import psycopg
import pytest

from softpro.db.database import Database
from softpro.entities import EntityType, Mode, SyncType
from softpro.mapping.defaults import default_mappings
from softpro.runs import pipeline
from softpro.runs.push import push
from softpro.sync.soft_delete import soft_delete
from softpro.writeback.remote_deletes import settle_remote_deletes

from ..support.databases import execute, one, rows
from ..support.fixture_types import StartSandbox
from ..support.product import between
from ..support.writeback import Office, create_here, edit_here, edit_there, open_edits, pushed, time_passes

TRANSACTION, CONTACT = EntityType.TRANSACTION, EntityType.CONTACT


def own(start_sandbox: StartSandbox, database: Database, **more: int) -> Office:
    sandbox = start_sandbox(**{"transactions": 5, "contacts": 3, **more})
    return Office(*between(database, sandbox), sandbox, sandbox.organizations[0])


def test_an_edit_after_a_create_whose_answer_was_lost_is_sent(start_sandbox: StartSandbox, database: Database) -> None:
    office = own(start_sandbox, database)
    made = create_here(office.database, CONTACT, "acme", contact_type="INDIVIDUAL", last_name="Made", notes="one")
    office.sandbox.switch(lostWrite=1.0)
    pushed(office.services, office.integration)
    office.sandbox.switch(lostWrite=0)
    edit_here(office.database, CONTACT, made, notes="two")
    for _ in range(3):
        time_passes(office.database)
        pushed(office.services, office.integration)
    office.sync()
    pushed(office.services, office.integration)
    [there] = [each for each in office.there().values() if each.get("lastName") == "Made"]
    here = one(office.database, "select notes from roi.contacts where id = %s", made)
    assert (here, there["notes"]) == ("two", "two"), rows(
        office.database, "select operation, field, new_value, outcome from softpro.outbox order by id"
    )


def test_a_row_deleted_while_the_fate_of_its_create_is_unknown_stays_deleted(
    start_sandbox: StartSandbox, database: Database
) -> None:
    office = own(start_sandbox, database)
    office.choose(push_deletes=True)
    office.sync(TRANSACTION)
    made = create_here(office.database, TRANSACTION, "acme", transaction_type="PURCHASE", notes="made here")
    office.sandbox.switch(lostWrite=1.0)
    pushed(office.services, office.integration, TRANSACTION)
    office.sandbox.switch(lostWrite=0)
    execute(office.database, "delete from roi.transactions where id = %s", made)
    for _ in range(4):
        time_passes(office.database)
        pushed(office.services, office.integration, TRANSACTION)
        office.sync(TRANSACTION)
    there = [each for each in office.there(TRANSACTION).values() if each.get("notes") == "made here"]
    here = rows(
        office.database,
        "select id, softpro_order_id from roi.transactions where notes = 'made here' and deleted_at is null",
    )
    assert (len(there), here) == (0, []), (made, rows(office.database, "select operation, outcome from softpro.outbox"))


def test_what_softpro_refuses_twice_is_not_sent_again_by_itself(office: Office) -> None:
    for value in ("NONE SUCH", "NOR THIS"):
        office.edit_here(contact_type=value)
        assert pushed(office.services, office.integration).records_failed == 1
    assert one(office.database, "select next_attempt_at from softpro.pushes") is None


def test_what_is_in_quarantine_is_not_overwritten(office: Office) -> None:
    """docs: SoftPro's version could not be loaded (it is in quarantine ...): it waits for that."""
    office.sync(TRANSACTION)
    key = one(office.database, "select min(softpro_order_id) from roi.transactions")
    edit_here(office.database, TRANSACTION, key, notes="ours")
    edit_there(office.sandbox, office.organization, TRANSACTION, key, notes="theirs", purchasePrice=-5)
    office.sync(TRANSACTION)
    assert one(office.database, "select count(*) from softpro.quarantine where resolved_at is null") == 1
    pushed(office.services, office.integration, TRANSACTION)
    assert office.there(TRANSACTION)[key]["notes"] == "theirs"


def test_many_deletes_made_while_a_push_runs_wait_for_a_person(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPRO_DELETE_LIMIT_RECORDS", "5")
    office.choose(push_deletes=True)
    office.sync(TRANSACTION)
    before = len(office.there(TRANSACTION))
    first = one(office.database, "select min(softpro_order_id) from roi.transactions")
    edit_here(office.database, TRANSACTION, first, notes="something to send")
    done: list[bool] = []

    def stage(name: str, told: str) -> None:
        if told and not done:  # the first record is sent, and somebody empties the table
            done.append(True)
            execute(office.database, "delete from roi.transactions")

    push(
        office.services, office.integration, TRANSACTION, sync_type=SyncType.MANUAL, run_id="x", patience=0, stage=stage
    )
    assert done
    assert len(office.there(TRANSACTION)) == before


@pytest.mark.parametrize("strategy", ["ROI_WINS", "NEWEST_WINS", "MANUAL_REVIEW", "SOFTPRO_WINS"])
def test_a_bulk_edit_that_meets_deleted_rows_makes_no_records(office: Office, strategy: str) -> None:
    office.choose(push_deletes=True, conflict_strategy=strategy)
    office.sync(TRANSACTION)
    key = one(office.database, "select min(softpro_order_id) from roi.transactions")
    execute(office.database, "update roi.transactions set deleted_at = now() where softpro_order_id = %s", key)
    pushed(office.services, office.integration, TRANSACTION)
    left = len(office.there(TRANSACTION))
    assert open_edits(office.database) == 0
    execute(office.database, "update roi.transactions set notes = 'tidied'")  # every row, as people do
    for _ in range(2):
        pushed(office.services, office.integration, TRANSACTION)
        office.sync(TRANSACTION)
    assert (len(office.there(TRANSACTION)), rows(office.database, "select kind, status from softpro.conflicts")) == (
        left,
        [],
    )


def test_a_row_that_is_deleted_on_both_sides_stays_so_though_it_had_been_edited(office: Office) -> None:
    office.choose(push_deletes=True, conflict_strategy="ROI_WINS")
    office.sync(TRANSACTION)
    key = one(office.database, "select min(softpro_order_id) from roi.transactions")
    edit_here(office.database, TRANSACTION, key, notes="ours")
    office.sandbox.delete(office.organization, key)
    for _ in range(2):  # 404, and 404 again: buried, but for the row
        run_missing(office, key)
    execute(office.database, "update roi.transactions set deleted_at = now() where softpro_order_id = %s", key)
    left = len(office.there(TRANSACTION))
    for _ in range(3):
        time_passes(office.database)
        pushed(office.services, office.integration, TRANSACTION)
    assert (len(office.there(TRANSACTION)), open_edits(office.database)) == (left, 0), rows(
        office.database, "select error from softpro.pushes"
    )


def run_missing(office: Office, key: str) -> None:
    """As a webhook or a reconcile would."""

    run = pipeline.begin(
        office.database,
        office.integration,
        TRANSACTION,
        mode=Mode.RECORDS,
        sync_type=SyncType.MANUAL,
        run_id=f"b{time.time()}",
        records=[key],
    )
    with office.database.connect() as connection, connection.transaction():
        soft_delete(connection, run, {key: datetime.now(UTC)})
    pipeline.finish(office.database, run)


def test_a_row_deleted_on_both_sides_is_settled_where_deletes_are_not_sent(office: Office) -> None:
    office.sync(TRANSACTION)
    key = one(office.database, "select min(softpro_order_id) from roi.transactions")
    edit_here(office.database, TRANSACTION, key, notes="ours")
    office.sandbox.delete(office.organization, key)
    run_missing(office, key)
    execute(office.database, "delete from roi.transactions where softpro_order_id = %s", key)
    for _ in range(4):
        time_passes(office.database)
        pushed(office.services, office.integration, TRANSACTION)
    assert open_edits(office.database) == 0, rows(office.database, "select error, next_attempt_at from softpro.pushes")


def test_an_undelete_of_a_row_never_sent(office: Office) -> None:
    made = create_here(office.database, CONTACT, "acme", contact_type="INDIVIDUAL", last_name="Made")
    execute(office.database, "update roi.contacts set deleted_at = now() where id = %s", made)
    pushed(office.services, office.integration)
    execute(office.database, "update roi.contacts set deleted_at = null where id = %s", made)
    pushed(office.services, office.integration)
    assert [each for each in office.there().values() if each.get("lastName") == "Made"]


def test_an_undelete_after_softpro_changed_it_loads_that(office: Office) -> None:
    office.choose(push_deletes=True, conflict_strategy="ROI_WINS")
    office.sync(TRANSACTION)
    key = one(office.database, "select min(softpro_order_id) from roi.transactions")
    execute(office.database, "update roi.transactions set deleted_at = now() where softpro_order_id = %s", key)
    edit_there(office.sandbox, office.organization, TRANSACTION, key, notes="theirs")
    office.sync(TRANSACTION)
    execute(office.database, "update roi.transactions set deleted_at = null where softpro_order_id = %s", key)
    pushed(office.services, office.integration, TRANSACTION)
    office.sync(TRANSACTION)
    office.sync(TRANSACTION, mode=Mode.DELTA)
    assert one(office.database, "select notes from roi.transactions where softpro_order_id = %s", key) == "theirs"


def test_edits_of_a_column_that_no_mapping_names_do_not_pile_up(office: Office) -> None:

    office.map_by([each for each in default_mappings(CONTACT) if each.roi_systems_field != "suffix"])
    for number in range(20):
        office.edit_here(suffix=str(number))
        pushed(office.services, office.integration)
        office.sync(mode=Mode.FULL)
    assert open_edits(office.database) <= 1


def test_two_pushes_at_once_decide_once_about_what_softpro_deleted(office: Office) -> None:

    office.sync(TRANSACTION)
    key = one(office.database, "select min(softpro_order_id) from roi.transactions")
    edit_here(office.database, TRANSACTION, key, notes="ours")
    run_missing(office, key)
    run = pipeline.begin(
        office.database,
        office.integration,
        TRANSACTION,
        mode=Mode.PUSH,
        sync_type=SyncType.MANUAL,
        run_id="two",
        records=(),
    )
    failed: list[Exception] = []

    def act() -> None:
        try:
            with office.database.connect() as connection:
                settle_remote_deletes(connection, run)
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(error)

    with office.database.connect() as other, other.transaction():
        other.execute("select from raw.records where entity_id = %s for update", [key])
        threads = [threading.Thread(target=act) for _ in range(2)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while one(office.database, "select count(*) from pg_locks where not granted") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert (failed, one(office.database, "select count(*) from softpro.conflicts")) == ([], 1)


def test_history_has_the_version_that_was_loaded_after_a_persons_transaction_began(office: Office) -> None:
    with office.database.connect() as person, person.transaction():
        person.execute("select now()")
        office.edit_there(notes="theirs")
        office.sync()
        person.execute("update roi.contacts set notes = 'ours' where softpro_contact_id = %s", [office.key])
    versions = rows(
        office.database,
        """
        select notes, valid_from, nullif(valid_to, 'infinity') as valid_to from roi.contacts_versions
        where softpro_contact_id = %s
        order by valid_from
        """,
        office.key,
    )
    assert [each["notes"] for each in versions][-2:] == ["theirs", "ours"]
    assert all(one["valid_to"] == two["valid_from"] for one, two in itertools.pairwise(versions))


@pytest.mark.parametrize("statement", ["delete from roi.contacts", "truncate roi.contacts"])
def test_history_of_rows_that_come_back_does_not_overlap(office: Office, statement: str) -> None:
    execute(office.database, statement)
    pushed(office.services, office.integration)
    versions = rows(
        office.database,
        """
        select deleted_at is not null as gone, valid_from, nullif(valid_to, 'infinity') as valid_to
        from roi.contacts_versions v
        where softpro_contact_id = %s
        order by valid_from, v.valid_to
        """,
        office.key,
    )
    assert not versions[0]["gone"]  # it was there before it was deleted
    assert all(
        one["valid_to"] is not None and one["valid_to"] <= two["valid_from"]
        for one, two in itertools.pairwise(versions)
    )


def test_a_purged_row_ends_a_push(office: Office) -> None:
    """Edited once it was deleted on both sides, and then purged."""
    office.choose(push_deletes=True)
    office.sync(TRANSACTION)
    key = one(office.database, "select min(softpro_order_id) from roi.transactions")
    execute(office.database, "update roi.transactions set deleted_at = now() where softpro_order_id = %s", key)
    pushed(office.services, office.integration, TRANSACTION)
    edit_here(office.database, TRANSACTION, key, notes="a remark")
    execute(office.database, "delete from roi.transactions where softpro_order_id = %s", key)
    for _ in range(3):
        time_passes(office.database)
        log = push(
            office.services,
            office.integration,
            TRANSACTION,
            sync_type=SyncType.MANUAL,
            run_id=f"p{time.time()}",
            seconds=5,
            patience=0,
        )  # without `seconds`, as `python -m softpro push` calls it, it never returns
        assert log.api_requests <= 2, (log.api_requests, log.duration)
    assert open_edits(office.database) == 0, rows(office.database, "select error from softpro.pushes")


def test_a_slow_vendor_is_no_fast_clock(start_sandbox: StartSandbox, database: Database) -> None:
    office = own(start_sandbox, database)
    office.sandbox.switch(slowSeconds=4.0, slow=1.0)
    office.sync()
    assert abs(one(office.database, "select coalesce(max(clock_ahead_seconds), 0) from softpro.capabilities")) < 2


def test_what_softpro_has_deleted_can_not_be_undeleted(office: Office) -> None:
    office.choose(push_deletes=True)
    office.sync(TRANSACTION)
    key = one(office.database, "select min(softpro_order_id) from roi.transactions")
    execute(office.database, "update roi.transactions set deleted_at = now() where softpro_order_id = %s", key)
    pushed(office.services, office.integration, TRANSACTION)
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="insert a new row"):
        execute(office.database, "update roi.transactions set deleted_at = null where softpro_order_id = %s", key)


def test_a_row_made_before_its_organization_is_known_is_sent(start_sandbox: StartSandbox, database: Database) -> None:
    made = create_here(database, CONTACT, "acme", contact_type="INDIVIDUAL", last_name="Early")
    office = own(start_sandbox, database)
    pushed(office.services, office.integration)
    early = [each for each in office.there().values() if each.get("lastName") == "Early"]
    assert [each["customFields"]["roiSystemsId"] for each in early] == [str(made)]
