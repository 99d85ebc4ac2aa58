"""Records that are made on one side, and deleted on one or both."""

from __future__ import annotations

import pytest

from softpro.entities import EntityType, Mode
from softpro.mapping.defaults import default_mappings

from ..support.databases import execute, one, rows
from ..support.sandbox import Sandbox
from ..support.writeback import Office, create_here, dying, edit_here, edit_there, open_edits, pushed, time_passes

TRANSACTION, CONTACT = EntityType.TRANSACTION, EntityType.CONTACT
OUTCOMES = "select field, outcome from softpro.outbox order by id"


def test_a_record_that_was_made_here_is_made_there_and_is_one(office: Office) -> None:
    made = create_here(office.database, CONTACT, "acme", contact_type="INDIVIDUAL", last_name="Made", notes="here")
    pushed(office.services, office.integration)
    [(key, there)] = [(key, each) for key, each in office.there().items() if each.get("lastName") == "Made"]
    assert (there["notes"], there["customFields"]["roiSystemsId"]) == ("here", str(made))
    office.sync()
    assert rows(office.database, "select id, softpro_contact_id as key from roi.contacts where last_name = 'Made'") == [
        {"id": made, "key": key}
    ]
    edit_here(office.database, CONTACT, made, notes="later", custom={})
    pushed(office.services, office.integration)
    assert office.there()[key]["notes"] == "later"
    assert office.there()[key]["customFields"] == {"roiSystemsId": str(made)}


@pytest.mark.parametrize("answered", [True, False])
def test_what_no_mapping_names_of_a_record_that_was_made_here_stays(
    office: Office, sandbox: Sandbox, answered: bool
) -> None:
    office.map_by([each for each in default_mappings(CONTACT) if each.roi_systems_field != "suffix"])
    made = create_here(office.database, CONTACT, "acme", contact_type="INDIVIDUAL", last_name="Made", suffix="Jr.")
    if answered:
        pushed(office.services, office.integration)
    else:
        dying(lambda: pushed(office.services, office.integration), 1)
    for mode in (Mode.INCREMENTAL, Mode.FULL):
        office.sync(mode=mode)
    row = "select suffix, softpro_contact_id is not null as known from roi.contacts where id = %s"
    assert rows(office.database, row, made) == [{"suffix": "Jr.", "known": True}]


def test_a_record_whose_making_was_not_answered_is_adopted_when_it_is_loaded(
    office: Office, sandbox: Sandbox, vendor_organization: str
) -> None:
    made = create_here(office.database, CONTACT, "acme", contact_type="INDIVIDUAL", notes="here")
    body = {
        "contactId": "con-adopted",
        "contactType": "INDIVIDUAL",
        "notes": "here",
        "customFields": {"roiSystemsId": str(made)},
        "createdAt": "2026-01-01T00:00:00.000Z",
        "updatedAt": "2026-01-01T00:00:00.000Z",
    }
    sandbox.put(vendor_organization, body, "CONTACT")
    edit_here(office.database, CONTACT, made, notes="changed since")
    office.sync(mode=Mode.DELTA)
    assert rows(office.database, "select id, notes from roi.contacts where softpro_contact_id = 'con-adopted'") == [
        {"id": made, "notes": "changed since"}
    ]
    pushed(office.services, office.integration)
    assert office.there()["con-adopted"]["notes"] == "changed since"
    assert len(office.there()) == one(office.database, "select count(*) from roi.contacts")


def test_of_two_records_that_say_they_were_made_here_the_first_is_and_the_other_is_one_of_its_own(
    office: Office, sandbox: Sandbox, vendor_organization: str
) -> None:
    made = create_here(office.database, CONTACT, "acme", contact_type="INDIVIDUAL", notes="here")
    for number in (1, 2):
        body = {
            "contactId": f"con-twin-{number}",
            "contactType": "INDIVIDUAL",
            "customFields": {"roiSystemsId": str(made)},
            "createdAt": f"2026-01-0{number}T00:00:00.000Z",
            "updatedAt": "2026-01-05T00:00:00.000Z",
        }
        sandbox.put(vendor_organization, body, "CONTACT")
    office.sync(mode=Mode.DELTA)
    twins = """
        select softpro_contact_id, id = %s as made from roi.contacts
        where softpro_contact_id like 'con-twin%%'
        order by 1
    """
    assert [tuple(row.values()) for row in rows(office.database, twins, made)] == [
        ("con-twin-1", True),
        ("con-twin-2", False),
    ]
    assert pushed(office.services, office.integration).api_requests == 0


def test_a_record_that_was_deleted_before_it_was_sent_is_never_made(office: Office) -> None:
    made = create_here(office.database, CONTACT, "acme", contact_type="INDIVIDUAL")
    execute(office.database, "delete from roi.contacts where id = %s", made)
    assert pushed(office.services, office.integration).api_requests == 0
    assert open_edits(office.database) == 0


@pytest.mark.parametrize(
    "statement", ["delete from roi.contacts", "truncate roi.contacts", "update roi.contacts set deleted_at = now()"]
)
def test_where_deletes_are_not_sent_the_rows_come_back_as_they_were(office: Office, statement: str) -> None:
    before = rows(office.database, "select id, softpro_contact_id, email from roi.contacts order by 1")
    execute(office.database, statement)
    began = len(office.there())
    pushed(office.services, office.integration)
    assert len(office.there()) == began
    back = "select id, softpro_contact_id, email from roi.contacts where deleted_at is null order by 1"
    assert rows(office.database, back) == before
    assert {row["outcome"] for row in rows(office.database, OUTCOMES)} == {"RESTORED"}


@pytest.mark.parametrize(
    "statement", ["delete from roi.transactions", "update roi.transactions set deleted_at = now()"]
)
def test_where_deletes_are_sent_they_are_and_many_wait_for_a_person(office: Office, statement: str) -> None:
    office.choose(push_deletes=True)
    office.sync(TRANSACTION)
    keys = [
        row["key"] for row in rows(office.database, "select softpro_order_id as key from roi.transactions order by 1")
    ]
    execute(office.database, statement + " where softpro_order_id = any(%s)", keys[:2])
    pushed(office.services, office.integration, TRANSACTION)
    assert set(office.there(TRANSACTION)) == set(keys[2:])
    execute(office.database, statement)
    pushed(office.services, office.integration, TRANSACTION)
    assert set(office.there(TRANSACTION)) == set(keys[2:])
    assert "a person has to say" in one(office.database, "select min(error) from softpro.pushes")
    office.sync(TRANSACTION, Mode.FULL)
    assert one(office.database, "select count(*) from roi.transactions where deleted_at is null") == 0


@pytest.mark.parametrize(
    ("strategy", "lives"), [("SOFTPRO_WINS", True), ("ROI_WINS", False), ("NEWEST_WINS", True), ("MERGE", True)]
)
def test_of_a_record_that_was_deleted_here_and_then_changed_there(
    office: Office, sandbox: Sandbox, vendor_organization: str, strategy: str, lives: bool
) -> None:
    office.choose(push_deletes=True, conflict_strategy=strategy)
    office.sync(TRANSACTION)
    key = one(office.database, "select min(softpro_order_id) from roi.transactions")
    roi_id = one(office.database, "delete from roi.transactions where softpro_order_id = %s returning id", key)
    edit_there(sandbox, vendor_organization, TRANSACTION, key, notes="theirs")
    office.sync(TRANSACTION)
    pushed(office.services, office.integration, TRANSACTION)
    assert (key in office.there(TRANSACTION)) is lives
    row = rows(office.database, "select id, notes from roi.transactions where softpro_order_id = %s", key)
    assert row == ([{"id": roi_id, "notes": "theirs"}] if lives else [])
    assert one(office.database, "select kind from softpro.conflicts where status = 'RESOLVED'") == "DELETED_IN_ROI"


@pytest.mark.parametrize(
    ("strategy", "anew"), [("SOFTPRO_WINS", False), ("ROI_WINS", True), ("NEWEST_WINS", False), ("MERGE", False)]
)
def test_of_a_record_that_was_changed_here_and_then_deleted_there(
    office: Office, sandbox: Sandbox, vendor_organization: str, strategy: str, anew: bool
) -> None:
    office.choose(conflict_strategy=strategy)
    office.sync(TRANSACTION)
    key = one(office.database, "select min(softpro_order_id) from roi.transactions")
    roi_id = one(office.database, "select id from roi.transactions where softpro_order_id = %s", key)
    edit_here(office.database, TRANSACTION, key, notes="ours")
    sandbox.delete(vendor_organization, key)
    for _ in range(3):  # a 404 is believed when it is repeated later
        pushed(office.services, office.integration, TRANSACTION)
        time_passes(office.database)
    assert open_edits(office.database) == 0
    assert one(office.database, "select kind from softpro.conflicts where status = 'RESOLVED'") == "DELETED_IN_SOFTPRO"
    [row] = rows(
        office.database, "select softpro_order_id as key, deleted_at from roi.transactions where id = %s", roi_id
    )
    if anew:
        assert (row["key"] in office.there(TRANSACTION), row["key"] != key, row["deleted_at"]) == (True, True, None)
        assert office.there(TRANSACTION)[row["key"]]["notes"] == "ours"
    else:
        assert (row["key"], row["deleted_at"] is not None) == (key, True)


def test_what_both_sides_deleted_is_deleted(office: Office, sandbox: Sandbox, vendor_organization: str) -> None:
    office.choose(push_deletes=True)
    office.sync(TRANSACTION)
    key = one(office.database, "select min(softpro_order_id) from roi.transactions")
    execute(office.database, "delete from roi.transactions where softpro_order_id = %s", key)
    sandbox.delete(vendor_organization, key)
    assert pushed(office.services, office.integration, TRANSACTION).status == "COMPLETED"
    assert open_edits(office.database) == 0
