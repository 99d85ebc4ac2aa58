"""Handle edge cases of write-back: edits after lost responses, deletes that meet edits, concurrent pushes."""

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
from ..support.product import connect_acme
from ..support.writeback import (
    BothSides,
    create_in_roi,
    edit_at_softpro,
    edit_in_roi,
    make_all_due,
    open_edits,
    run_push,
)

TRANSACTION, CONTACT = EntityType.TRANSACTION, EntityType.CONTACT


def own(start_sandbox: StartSandbox, database: Database, **more: int) -> BothSides:
    sandbox = start_sandbox(**{"transactions": 5, "contacts": 3, **more})
    return BothSides(*connect_acme(database, sandbox), sandbox, sandbox.organizations[0])


def test_an_edit_after_a_create_whose_answer_was_lost_is_sent(start_sandbox: StartSandbox, database: Database) -> None:
    sides = own(start_sandbox, database)
    made = create_in_roi(sides.database, CONTACT, "acme", contact_type="INDIVIDUAL", last_name="Made", notes="one")
    sides.sandbox.switch(lostWrite=1.0)
    run_push(sides.services, sides.integration)
    sides.sandbox.switch(lostWrite=0)
    edit_in_roi(sides.database, CONTACT, made, notes="two")
    for _ in range(3):
        make_all_due(sides.database)
        run_push(sides.services, sides.integration)
    sides.sync()
    run_push(sides.services, sides.integration)
    [there] = [each for each in sides.softpro_records().values() if each.get("lastName") == "Made"]
    here = one(sides.database, "select notes from roi.contacts where id = %s", made)
    assert (here, there["notes"]) == ("two", "two"), rows(
        sides.database, "select operation, field, new_value, outcome from softpro.outbox order by id"
    )


def test_a_row_deleted_while_the_fate_of_its_create_is_unknown_stays_deleted(
    start_sandbox: StartSandbox, database: Database
) -> None:
    sides = own(start_sandbox, database)
    sides.change_settings(push_deletes=True)
    sides.sync(TRANSACTION)
    made = create_in_roi(sides.database, TRANSACTION, "acme", transaction_type="PURCHASE", notes="made here")
    sides.sandbox.switch(lostWrite=1.0)
    run_push(sides.services, sides.integration, TRANSACTION)
    sides.sandbox.switch(lostWrite=0)
    execute(sides.database, "delete from roi.transactions where id = %s", made)
    for _ in range(4):
        make_all_due(sides.database)
        run_push(sides.services, sides.integration, TRANSACTION)
        sides.sync(TRANSACTION)
    there = [each for each in sides.softpro_records(TRANSACTION).values() if each.get("notes") == "made here"]
    here = rows(
        sides.database,
        "select id, softpro_order_id from roi.transactions where notes = 'made here' and deleted_at is null",
    )
    assert (len(there), here) == (0, []), (made, rows(sides.database, "select operation, outcome from softpro.outbox"))


def test_an_edit_refused_twice_is_not_retried_automatically(sides: BothSides) -> None:
    for value in ("NONE SUCH", "NOR THIS"):
        sides.edit_in_roi(contact_type=value)
        assert run_push(sides.services, sides.integration).records_failed == 1
    assert one(sides.database, "select next_attempt_at from softpro.pushes") is None


def test_a_quarantined_record_is_not_overwritten(sides: BothSides) -> None:
    """The edit waits until SoftPro's quarantined version is loaded, as the documentation says."""
    sides.sync(TRANSACTION)
    key = one(sides.database, "select min(softpro_order_id) from roi.transactions")
    edit_in_roi(sides.database, TRANSACTION, key, notes="ours")
    edit_at_softpro(sides.sandbox, sides.organization, TRANSACTION, key, notes="theirs", purchasePrice=-5)
    sides.sync(TRANSACTION)
    assert one(sides.database, "select count(*) from softpro.quarantine where resolved_at is null") == 1
    run_push(sides.services, sides.integration, TRANSACTION)
    assert sides.softpro_records(TRANSACTION)[key]["notes"] == "theirs"


def test_many_deletes_made_while_a_push_runs_wait_for_a_user(sides: BothSides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPRO_DELETE_LIMIT_RECORDS", "5")
    sides.change_settings(push_deletes=True)
    sides.sync(TRANSACTION)
    before = len(sides.softpro_records(TRANSACTION))
    first = one(sides.database, "select min(softpro_order_id) from roi.transactions")
    edit_in_roi(sides.database, TRANSACTION, first, notes="something to send")
    done: list[bool] = []

    def stage(name: str, detail: str) -> None:
        if detail and not done:  # the first record is sent, and then the table is emptied
            done.append(True)
            execute(sides.database, "delete from roi.transactions")

    push(sides.services, sides.integration, TRANSACTION, sync_type=SyncType.MANUAL, run_id="x", patience=0, stage=stage)
    assert done
    assert len(sides.softpro_records(TRANSACTION)) == before


@pytest.mark.parametrize("strategy", ["ROI_WINS", "NEWEST_WINS", "MANUAL_REVIEW", "SOFTPRO_WINS"])
def test_a_bulk_edit_that_meets_deleted_rows_makes_no_records(sides: BothSides, strategy: str) -> None:
    sides.change_settings(push_deletes=True, conflict_strategy=strategy)
    sides.sync(TRANSACTION)
    key = one(sides.database, "select min(softpro_order_id) from roi.transactions")
    execute(sides.database, "update roi.transactions set deleted_at = now() where softpro_order_id = %s", key)
    run_push(sides.services, sides.integration, TRANSACTION)
    left = len(sides.softpro_records(TRANSACTION))
    assert open_edits(sides.database) == 0
    execute(sides.database, "update roi.transactions set notes = 'tidied'")  # every row, as a bulk edit does
    for _ in range(2):
        run_push(sides.services, sides.integration, TRANSACTION)
        sides.sync(TRANSACTION)
    assert (
        len(sides.softpro_records(TRANSACTION)),
        rows(sides.database, "select kind, status from softpro.conflicts"),
    ) == (
        left,
        [],
    )


def test_a_row_that_is_deleted_on_both_sides_stays_so_though_it_had_been_edited(sides: BothSides) -> None:
    sides.change_settings(push_deletes=True, conflict_strategy="ROI_WINS")
    sides.sync(TRANSACTION)
    key = one(sides.database, "select min(softpro_order_id) from roi.transactions")
    edit_in_roi(sides.database, TRANSACTION, key, notes="ours")
    sides.sandbox.delete(sides.organization, key)
    for _ in range(2):  # a repeated 404: deleted except for the row
        run_missing(sides, key)
    execute(sides.database, "update roi.transactions set deleted_at = now() where softpro_order_id = %s", key)
    left = len(sides.softpro_records(TRANSACTION))
    for _ in range(3):
        make_all_due(sides.database)
        run_push(sides.services, sides.integration, TRANSACTION)
    assert (len(sides.softpro_records(TRANSACTION)), open_edits(sides.database)) == (left, 0), rows(
        sides.database, "select error from softpro.pushes"
    )


def run_missing(sides: BothSides, key: str) -> None:
    """Settle the record as missing, as a webhook or a reconcile would."""
    run = pipeline.begin(
        sides.database,
        sides.integration,
        TRANSACTION,
        mode=Mode.RECORDS,
        sync_type=SyncType.MANUAL,
        run_id=f"b{time.time()}",
        records=[key],
    )
    with sides.database.connect() as connection, connection.transaction():
        soft_delete(connection, run, {key: datetime.now(UTC)})
    pipeline.finish(sides.database, run)


def test_a_row_deleted_on_both_sides_is_settled_where_deletes_are_not_sent(sides: BothSides) -> None:
    sides.sync(TRANSACTION)
    key = one(sides.database, "select min(softpro_order_id) from roi.transactions")
    edit_in_roi(sides.database, TRANSACTION, key, notes="ours")
    sides.sandbox.delete(sides.organization, key)
    run_missing(sides, key)
    execute(sides.database, "delete from roi.transactions where softpro_order_id = %s", key)
    for _ in range(4):
        make_all_due(sides.database)
        run_push(sides.services, sides.integration, TRANSACTION)
    assert open_edits(sides.database) == 0, rows(sides.database, "select error, next_attempt_at from softpro.pushes")


def test_an_undelete_of_a_row_never_sent(sides: BothSides) -> None:
    made = create_in_roi(sides.database, CONTACT, "acme", contact_type="INDIVIDUAL", last_name="Made")
    execute(sides.database, "update roi.contacts set deleted_at = now() where id = %s", made)
    run_push(sides.services, sides.integration)
    execute(sides.database, "update roi.contacts set deleted_at = null where id = %s", made)
    run_push(sides.services, sides.integration)
    assert [each for each in sides.softpro_records().values() if each.get("lastName") == "Made"]


def test_an_undelete_after_softpro_changed_it_loads_that(sides: BothSides) -> None:
    sides.change_settings(push_deletes=True, conflict_strategy="ROI_WINS")
    sides.sync(TRANSACTION)
    key = one(sides.database, "select min(softpro_order_id) from roi.transactions")
    execute(sides.database, "update roi.transactions set deleted_at = now() where softpro_order_id = %s", key)
    edit_at_softpro(sides.sandbox, sides.organization, TRANSACTION, key, notes="theirs")
    sides.sync(TRANSACTION)
    execute(sides.database, "update roi.transactions set deleted_at = null where softpro_order_id = %s", key)
    run_push(sides.services, sides.integration, TRANSACTION)
    sides.sync(TRANSACTION)
    sides.sync(TRANSACTION, mode=Mode.DELTA)
    assert one(sides.database, "select notes from roi.transactions where softpro_order_id = %s", key) == "theirs"


def test_edits_of_a_column_that_no_mapping_names_do_not_pile_up(sides: BothSides) -> None:

    sides.set_mappings([each for each in default_mappings(CONTACT) if each.roi_systems_field != "suffix"])
    for number in range(20):
        sides.edit_in_roi(suffix=str(number))
        run_push(sides.services, sides.integration)
        sides.sync(mode=Mode.FULL)
    assert open_edits(sides.database) <= 1


def test_two_pushes_at_once_decide_once_about_what_softpro_deleted(sides: BothSides) -> None:

    sides.sync(TRANSACTION)
    key = one(sides.database, "select min(softpro_order_id) from roi.transactions")
    edit_in_roi(sides.database, TRANSACTION, key, notes="ours")
    run_missing(sides, key)
    run = pipeline.begin(
        sides.database,
        sides.integration,
        TRANSACTION,
        mode=Mode.PUSH,
        sync_type=SyncType.MANUAL,
        run_id="two",
        records=(),
    )
    failed: list[Exception] = []

    def act() -> None:
        try:
            with sides.database.connect() as connection:
                settle_remote_deletes(connection, run)
        except Exception as error:  # noqa: BLE001 - reported below
            failed.append(error)

    with sides.database.connect() as other, other.transaction():
        other.execute("select from raw.records where entity_id = %s for update", [key])
        threads = [threading.Thread(target=act) for _ in range(2)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while one(sides.database, "select count(*) from pg_locks where not granted") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert (failed, one(sides.database, "select count(*) from softpro.conflicts")) == ([], 1)


def test_history_has_a_version_loaded_after_a_users_transaction_began(sides: BothSides) -> None:
    with sides.database.connect() as person, person.transaction():
        person.execute("select now()")
        sides.edit_at_softpro(notes="theirs")
        sides.sync()
        person.execute("update roi.contacts set notes = 'ours' where softpro_contact_id = %s", [sides.key])
    versions = rows(
        sides.database,
        """
        select notes, valid_from, nullif(valid_to, 'infinity') as valid_to from roi.contacts_versions
        where softpro_contact_id = %s
        order by valid_from
        """,
        sides.key,
    )
    assert [each["notes"] for each in versions][-2:] == ["theirs", "ours"]
    assert all(one["valid_to"] == two["valid_from"] for one, two in itertools.pairwise(versions))


@pytest.mark.parametrize("statement", ["delete from roi.contacts", "truncate roi.contacts"])
def test_history_of_rows_that_come_back_does_not_overlap(sides: BothSides, statement: str) -> None:
    execute(sides.database, statement)
    run_push(sides.services, sides.integration)
    versions = rows(
        sides.database,
        """
        select deleted_at is not null as gone, valid_from, nullif(valid_to, 'infinity') as valid_to
        from roi.contacts_versions v
        where softpro_contact_id = %s
        order by valid_from, v.valid_to
        """,
        sides.key,
    )
    assert not versions[0]["gone"]  # it existed before it was deleted
    assert all(
        one["valid_to"] is not None and one["valid_to"] <= two["valid_from"]
        for one, two in itertools.pairwise(versions)
    )


def test_a_purged_row_ends_a_push(sides: BothSides) -> None:
    """The row is edited after its delete on both sides, and then purged."""
    sides.change_settings(push_deletes=True)
    sides.sync(TRANSACTION)
    key = one(sides.database, "select min(softpro_order_id) from roi.transactions")
    execute(sides.database, "update roi.transactions set deleted_at = now() where softpro_order_id = %s", key)
    run_push(sides.services, sides.integration, TRANSACTION)
    edit_in_roi(sides.database, TRANSACTION, key, notes="a remark")
    execute(sides.database, "delete from roi.transactions where softpro_order_id = %s", key)
    for _ in range(3):
        make_all_due(sides.database)
        log = push(
            sides.services,
            sides.integration,
            TRANSACTION,
            sync_type=SyncType.MANUAL,
            run_id=f"p{time.time()}",
            seconds=5,
            patience=0,
        )  # without `seconds`, as `python -m softpro push` calls it, it would never return
        assert log.api_requests <= 2, (log.api_requests, log.duration)
    assert open_edits(sides.database) == 0, rows(sides.database, "select error from softpro.pushes")


def test_a_slow_vendor_is_no_fast_clock(start_sandbox: StartSandbox, database: Database) -> None:
    sides = own(start_sandbox, database)
    sides.sandbox.switch(slowSeconds=4.0, slow=1.0)
    sides.sync()
    assert abs(one(sides.database, "select coalesce(max(clock_ahead_seconds), 0) from softpro.capabilities")) < 2


def test_a_record_that_softpro_deleted_can_not_be_undeleted(sides: BothSides) -> None:
    sides.change_settings(push_deletes=True)
    sides.sync(TRANSACTION)
    key = one(sides.database, "select min(softpro_order_id) from roi.transactions")
    execute(sides.database, "update roi.transactions set deleted_at = now() where softpro_order_id = %s", key)
    run_push(sides.services, sides.integration, TRANSACTION)
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="insert a new row"):
        execute(sides.database, "update roi.transactions set deleted_at = null where softpro_order_id = %s", key)


def test_a_row_made_before_its_organization_is_known_is_sent(start_sandbox: StartSandbox, database: Database) -> None:
    made = create_in_roi(database, CONTACT, "acme", contact_type="INDIVIDUAL", last_name="Early")
    sides = own(start_sandbox, database)
    run_push(sides.services, sides.integration)
    early = [each for each in sides.softpro_records().values() if each.get("lastName") == "Early"]
    assert [each["customFields"]["roiSystemsId"] for each in early] == [str(made)]
