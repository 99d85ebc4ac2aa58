"""Create records on one side, and delete them on one or both."""

from __future__ import annotations

import pytest

from softpro.entities import EntityType, Mode
from softpro.mapping.defaults import default_mappings

from ..support.databases import execute, one, rows
from ..support.sandbox import Sandbox
from ..support.writeback import (
    BothSides,
    create_in_roi,
    edit_at_softpro,
    edit_in_roi,
    make_all_due,
    open_edits,
    run_push,
    run_until_killed,
)

TRANSACTION, CONTACT = EntityType.TRANSACTION, EntityType.CONTACT
OUTCOMES = "select field, outcome from softpro.outbox order by id"


def test_a_record_that_was_made_here_is_made_there_and_is_one(sides: BothSides) -> None:
    made = create_in_roi(sides.database, CONTACT, "acme", contact_type="INDIVIDUAL", last_name="Made", notes="here")
    run_push(sides.services, sides.integration)
    [(key, there)] = [(key, each) for key, each in sides.softpro_records().items() if each.get("lastName") == "Made"]
    assert (there["notes"], there["customFields"]["roiSystemsId"]) == ("here", str(made))
    sides.sync()
    assert rows(sides.database, "select id, softpro_contact_id as key from roi.contacts where last_name = 'Made'") == [
        {"id": made, "key": key}
    ]
    edit_in_roi(sides.database, CONTACT, made, notes="later", custom={})
    run_push(sides.services, sides.integration)
    assert sides.softpro_records()[key]["notes"] == "later"
    assert sides.softpro_records()[key]["customFields"] == {"roiSystemsId": str(made)}


@pytest.mark.parametrize("answered", [True, False])
def test_unmapped_fields_of_a_new_record_are_kept(sides: BothSides, sandbox: Sandbox, answered: bool) -> None:
    sides.set_mappings([each for each in default_mappings(CONTACT) if each.roi_systems_field != "suffix"])
    made = create_in_roi(sides.database, CONTACT, "acme", contact_type="INDIVIDUAL", last_name="Made", suffix="Jr.")
    if answered:
        run_push(sides.services, sides.integration)
    else:
        run_until_killed(lambda: run_push(sides.services, sides.integration), 1)
    for mode in (Mode.INCREMENTAL, Mode.FULL):
        sides.sync(mode=mode)
    row = "select suffix, softpro_contact_id is not null as known from roi.contacts where id = %s"
    assert rows(sides.database, row, made) == [{"suffix": "Jr.", "known": True}]


def test_a_record_whose_create_was_not_answered_is_adopted_on_load(
    sides: BothSides, sandbox: Sandbox, vendor_organization: str
) -> None:
    made = create_in_roi(sides.database, CONTACT, "acme", contact_type="INDIVIDUAL", notes="here")
    body = {
        "contactId": "con-adopted",
        "contactType": "INDIVIDUAL",
        "notes": "here",
        "customFields": {"roiSystemsId": str(made)},
        "createdAt": "2026-01-01T00:00:00.000Z",
        "updatedAt": "2026-01-01T00:00:00.000Z",
    }
    sandbox.put(vendor_organization, body, "CONTACT")
    edit_in_roi(sides.database, CONTACT, made, notes="changed since")
    sides.sync(mode=Mode.DELTA)
    assert rows(sides.database, "select id, notes from roi.contacts where softpro_contact_id = 'con-adopted'") == [
        {"id": made, "notes": "changed since"}
    ]
    run_push(sides.services, sides.integration)
    assert sides.softpro_records()["con-adopted"]["notes"] == "changed since"
    assert len(sides.softpro_records()) == one(sides.database, "select count(*) from roi.contacts")


def test_the_first_of_two_records_with_one_roi_id_is_adopted(
    sides: BothSides, sandbox: Sandbox, vendor_organization: str
) -> None:
    made = create_in_roi(sides.database, CONTACT, "acme", contact_type="INDIVIDUAL", notes="here")
    for number in (1, 2):
        body = {
            "contactId": f"con-twin-{number}",
            "contactType": "INDIVIDUAL",
            "customFields": {"roiSystemsId": str(made)},
            "createdAt": f"2026-01-0{number}T00:00:00.000Z",
            "updatedAt": "2026-01-05T00:00:00.000Z",
        }
        sandbox.put(vendor_organization, body, "CONTACT")
    sides.sync(mode=Mode.DELTA)
    twins = """
        select softpro_contact_id, id = %s as made from roi.contacts
        where softpro_contact_id like 'con-twin%%'
        order by 1
    """
    assert [tuple(row.values()) for row in rows(sides.database, twins, made)] == [
        ("con-twin-1", True),
        ("con-twin-2", False),
    ]
    assert run_push(sides.services, sides.integration).api_requests == 0


def test_a_record_that_was_deleted_before_it_was_sent_is_never_made(sides: BothSides) -> None:
    made = create_in_roi(sides.database, CONTACT, "acme", contact_type="INDIVIDUAL")
    execute(sides.database, "delete from roi.contacts where id = %s", made)
    assert run_push(sides.services, sides.integration).api_requests == 0
    assert open_edits(sides.database) == 0


@pytest.mark.parametrize(
    "statement", ["delete from roi.contacts", "truncate roi.contacts", "update roi.contacts set deleted_at = now()"]
)
def test_where_deletes_are_not_sent_the_rows_come_back_as_they_were(sides: BothSides, statement: str) -> None:
    before = rows(sides.database, "select id, softpro_contact_id, email from roi.contacts order by 1")
    execute(sides.database, statement)
    began = len(sides.softpro_records())
    run_push(sides.services, sides.integration)
    assert len(sides.softpro_records()) == began
    back = "select id, softpro_contact_id, email from roi.contacts where deleted_at is null order by 1"
    assert rows(sides.database, back) == before
    assert {row["outcome"] for row in rows(sides.database, OUTCOMES)} == {"RESTORED"}


@pytest.mark.parametrize(
    "statement", ["delete from roi.transactions", "update roi.transactions set deleted_at = now()"]
)
def test_deletes_are_sent_where_allowed_and_many_wait_for_a_user(sides: BothSides, statement: str) -> None:
    sides.change_settings(push_deletes=True)
    sides.sync(TRANSACTION)
    keys = [
        row["key"] for row in rows(sides.database, "select softpro_order_id as key from roi.transactions order by 1")
    ]
    execute(sides.database, statement + " where softpro_order_id = any(%s)", keys[:2])
    run_push(sides.services, sides.integration, TRANSACTION)
    assert set(sides.softpro_records(TRANSACTION)) == set(keys[2:])
    execute(sides.database, statement)
    run_push(sides.services, sides.integration, TRANSACTION)
    assert set(sides.softpro_records(TRANSACTION)) == set(keys[2:])
    assert "a user must approve this" in one(sides.database, "select min(error) from softpro.pushes")
    sides.sync(TRANSACTION, Mode.FULL)
    assert one(sides.database, "select count(*) from roi.transactions where deleted_at is null") == 0


@pytest.mark.parametrize(
    ("strategy", "lives"), [("SOFTPRO_WINS", True), ("ROI_WINS", False), ("NEWEST_WINS", True), ("MERGE", True)]
)
def test_a_record_deleted_in_roi_and_then_changed_at_softpro(
    sides: BothSides, sandbox: Sandbox, vendor_organization: str, strategy: str, lives: bool
) -> None:
    sides.change_settings(push_deletes=True, conflict_strategy=strategy)
    sides.sync(TRANSACTION)
    key = one(sides.database, "select min(softpro_order_id) from roi.transactions")
    roi_id = one(sides.database, "delete from roi.transactions where softpro_order_id = %s returning id", key)
    edit_at_softpro(sandbox, vendor_organization, TRANSACTION, key, notes="theirs")
    sides.sync(TRANSACTION)
    run_push(sides.services, sides.integration, TRANSACTION)
    assert (key in sides.softpro_records(TRANSACTION)) is lives
    row = rows(sides.database, "select id, notes from roi.transactions where softpro_order_id = %s", key)
    assert row == ([{"id": roi_id, "notes": "theirs"}] if lives else [])
    assert one(sides.database, "select kind from softpro.conflicts where status = 'RESOLVED'") == "DELETED_IN_ROI"


@pytest.mark.parametrize(
    ("strategy", "recreated"), [("SOFTPRO_WINS", False), ("ROI_WINS", True), ("NEWEST_WINS", False), ("MERGE", False)]
)
def test_a_record_changed_in_roi_and_then_deleted_at_softpro(
    sides: BothSides, sandbox: Sandbox, vendor_organization: str, strategy: str, recreated: bool
) -> None:
    sides.change_settings(conflict_strategy=strategy)
    sides.sync(TRANSACTION)
    key = one(sides.database, "select min(softpro_order_id) from roi.transactions")
    roi_id = one(sides.database, "select id from roi.transactions where softpro_order_id = %s", key)
    edit_in_roi(sides.database, TRANSACTION, key, notes="ours")
    sandbox.delete(vendor_organization, key)
    for _ in range(3):  # a 404 counts once it is repeated later
        run_push(sides.services, sides.integration, TRANSACTION)
        make_all_due(sides.database)
    assert open_edits(sides.database) == 0
    assert one(sides.database, "select kind from softpro.conflicts where status = 'RESOLVED'") == "DELETED_IN_SOFTPRO"
    [row] = rows(
        sides.database, "select softpro_order_id as key, deleted_at from roi.transactions where id = %s", roi_id
    )
    if recreated:
        assert (row["key"] in sides.softpro_records(TRANSACTION), row["key"] != key, row["deleted_at"]) == (
            True,
            True,
            None,
        )
        assert sides.softpro_records(TRANSACTION)[row["key"]]["notes"] == "ours"
    else:
        assert (row["key"], row["deleted_at"] is not None) == (key, True)


def test_a_record_deleted_on_both_sides_is_deleted(
    sides: BothSides, sandbox: Sandbox, vendor_organization: str
) -> None:
    sides.change_settings(push_deletes=True)
    sides.sync(TRANSACTION)
    key = one(sides.database, "select min(softpro_order_id) from roi.transactions")
    execute(sides.database, "delete from roi.transactions where softpro_order_id = %s", key)
    sandbox.delete(vendor_organization, key)
    assert run_push(sides.services, sides.integration, TRANSACTION).status == "COMPLETED"
    assert open_edits(sides.database) == 0
