"""Push users' changes in `roi` to SoftPro: only those, and only once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from psycopg import sql

from softpro.entities import EntityType, Mode, SyncType
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.runs import sync as runs_sync

from ..support.databases import one, rows
from ..support.product import quality_settings, sync
from ..support.writeback import BothSides, create_in_roi, edit_in_roi, make_all_due, open_edits, run_push

CONTACT = EntityType.CONTACT
SELECT_WAIT = "select error, extract(epoch from next_attempt_at - now())::float8 as wait from softpro.pushes"
OUTCOMES = "select field, outcome from softpro.outbox order by id"


def with_change(column: str, **changes: Any) -> list[Mapping]:
    """Return the default mappings of contacts with one mapping changed."""
    return [
        replace(each, **changes) if each.roi_systems_field == column else each for each in default_mappings(CONTACT)
    ]


def test_a_changed_field_is_sent_and_comes_back_as_no_change(sides: BothSides) -> None:
    sides.edit_in_roi(email="new@example.com", custom={"vip": True})
    log = run_push(sides.services, sides.integration)
    assert (log.status, log.direction, log.mode) == ("COMPLETED", "ROI_TO_SOFTPRO", "push")
    there = sides.softpro_records()[sides.key]
    assert (there["email"], there["customFields"]["vip"]) == ("new@example.com", True)
    assert open_edits(sides.database) == 0
    again = sync(sides.services, sides.integration, CONTACT)
    assert (again.records_updated, again.records_inserted) == (0, 0)
    assert run_push(sides.services, sides.integration).api_requests == 0


def test_only_what_changed_is_sent_and_null_clears(sides: BothSides) -> None:
    sides.edit_at_softpro(notes="theirs")  # not loaded yet
    sides.edit_in_roi(company=None, job_title="Escrow officer")
    run_push(sides.services, sides.integration)
    there = sides.softpro_records()[sides.key]
    assert (there["notes"], there["company"], there["jobTitle"]) == ("theirs", None, "Escrow officer")
    assert sides.roi_values("notes", "company", "job_title") == ("theirs", None, "Escrow officer")


def test_an_edit_that_is_taken_back_sends_nothing(sides: BothSides) -> None:
    (before,) = sides.roi_values("notes")
    sides.edit_in_roi(notes="changed")
    sides.edit_in_roi(notes=before)
    assert run_push(sides.services, sides.integration).api_requests == 1  # reads the version
    assert [row["outcome"] for row in rows(sides.database, OUTCOMES)] == ["AGREED", "AGREED"]


def test_a_field_is_sent_by_its_rule_and_a_failing_rule_blocks_no_other_record(
    sides: BothSides,
) -> None:
    rule = {"fromSoftPro": "$uppercase($)", "toSoftPro": "$ = 'WRONG' ? $error('not this') : $lowercase($)"}
    sides.set_mappings(with_change("last_name", transformation_rule=rule))
    sides.edit_in_roi(last_name="SMITH")
    other = one(sides.database, "select max(softpro_contact_id) from roi.contacts")
    edit_in_roi(sides.database, CONTACT, other, last_name="WRONG")
    log = run_push(sides.services, sides.integration)
    assert (log.status, log.records_processed, log.records_failed) == ("PARTIAL_SUCCESS", 2, 1)
    assert sides.softpro_records()[sides.key]["lastName"] == "smith"
    assert "lastName: " in one(sides.database, "select error from softpro.pushes")
    edit_in_roi(sides.database, CONTACT, other, last_name="JONES")  # makes it due again
    assert run_push(sides.services, sides.integration).records_failed == 0
    assert sides.softpro_records()[other]["lastName"] == "jones"


def test_a_refused_edit_waits_for_another_edit(sides: BothSides) -> None:
    sides.edit_in_roi(contact_type="NONE SUCH", notes="a note")
    assert run_push(sides.services, sides.integration).records_failed == 1
    assert run_push(sides.services, sides.integration).records_processed == 0
    assert sides.softpro_records()[sides.key]["contactType"] != "NONE SUCH"
    sides.edit_in_roi(contact_type="ATTORNEY")
    assert run_push(sides.services, sides.integration).records_failed == 0
    there = sides.softpro_records()[sides.key]
    assert (there["contactType"], there["notes"]) == ("ATTORNEY", "a note")


def test_a_named_record_is_sent_though_it_is_not_due(sides: BothSides) -> None:
    other = one(sides.database, "select max(softpro_contact_id) from roi.contacts")
    for key in (sides.key, other):
        edit_in_roi(sides.database, CONTACT, key, notes="ours")
    (roi_id,) = sides.roi_values("id")
    run_push(sides.services, sides.integration, records=[roi_id])
    assert [sides.softpro_records()[key].get("notes") == "ours" for key in (sides.key, other)] == [True, False]


# Ownership of fields


def test_a_field_that_is_only_sent_stays_what_it_is_here(sides: BothSides) -> None:
    mine = [
        Mapping(CONTACT, "customFields.rating", "custom.rating", "ROI_TO_SOFTPRO"),
        *with_change("fax", direction="ROI_TO_SOFTPRO"),
    ]
    sides.set_mappings(mine)
    sides.edit_in_roi(fax="555", custom={"rating": 5})
    run_push(sides.services, sides.integration)
    there = sides.softpro_records()[sides.key]
    assert (there["fax"], there["customFields"]["rating"]) == ("555", 5)
    sides.edit_at_softpro(fax="666", notes="theirs")
    sides.sync()
    assert sides.roi_values("fax", "notes") == ("555", "theirs")
    assert sides.roi_values("custom")[0]["rating"] == 5


def test_a_field_that_is_only_loaded_is_softpros_again_with_its_next_version(sides: BothSides) -> None:
    sides.set_mappings(with_change("notes", direction="SOFTPRO_TO_ROI"))
    sides.edit_in_roi(notes="ours")
    assert run_push(sides.services, sides.integration).api_requests == 0
    sides.edit_at_softpro(company="Theirs")
    sides.sync()
    assert sides.roi_values("notes", "company") == (sides.softpro_records()[sides.key].get("notes"), "Theirs")
    assert open_edits(sides.database) == 0


def test_a_field_that_no_mapping_names_is_left_alone(sides: BothSides) -> None:
    sides.set_mappings([each for each in default_mappings(CONTACT) if each.roi_systems_field != "suffix"])
    sides.edit_in_roi(suffix="Jr.", fax="555")
    sides.edit_at_softpro(notes="theirs")
    run_push(sides.services, sides.integration)
    sides.sync(mode=Mode.FULL)
    assert sides.roi_values("suffix", "fax", "notes") == ("Jr.", "555", "theirs")
    there = sides.softpro_records()[sides.key]
    assert (there.get("suffix") == "Jr.", there["fax"]) == (False, "555")
    assert run_push(sides.services, sides.integration).api_requests == 0


def test_another_mapping_is_no_change_at_softpro(sides: BothSides) -> None:
    sides.edit_at_softpro(email="as.it.was@example.com")
    sides.sync()
    sides.edit_in_roi(notes="ours", email="ours@example.com")
    sides.set_mappings(
        with_change("email", transformation_rule={"fromSoftPro": "$uppercase($)", "toSoftPro": "$lowercase($)"})
    )
    runs_sync.remap(
        sides.database,
        sides.integration,
        CONTACT,
        sync_type=SyncType.MANUAL,
        run_id="remap",
        quality=quality_settings(),
    )
    assert sides.roi_values("notes", "email") == ("ours", "ours@example.com")
    log = run_push(sides.services, sides.integration)
    assert (log.status, log.records_processed, log.error_message) == ("COMPLETED", 1, None)
    there = sides.softpro_records()[sides.key]
    assert (there["notes"], there["email"]) == ("ours", "ours@example.com")
    assert sides.roi_values("email") == ("OURS@EXAMPLE.COM",)
    assert rows(sides.database, "select * from softpro.conflicts") == []


def test_a_record_that_softpro_locks_is_tried_ever_less_often(sides: BothSides) -> None:
    sides.sandbox.switch(locked=[sides.key])
    sides.edit_in_roi(notes="mine")
    waits = []
    for _ in range(5):
        run_push(sides.services, sides.integration)
        [push] = rows(sides.database, SELECT_WAIT)
        waits.append(push["wait"])
        make_all_due(sides.database)
    assert "is locked" in push["error"]
    assert [round(wait / 5) for wait in waits] == [1, 2, 4, 8, 16]
    sides.sandbox.switch(locked=[])
    run_push(sides.services, sides.integration)
    assert sides.softpro_records()[sides.key]["notes"] == "mine"
    assert open_edits(sides.database) == 0


@pytest.mark.parametrize("response", ["changed", "ids", "nothing"])
def test_a_response_with_a_part_of_the_record_empties_no_column(sides: BothSides, response: str) -> None:
    history = sql.SQL("select count(*) from roi.contacts_history where {} = %s").format(sql.Identifier(CONTACT.key))
    sides.sandbox.switch(writeResponse=response)
    before = sides.roi_values("first_name", "email", "city")
    assert None not in before
    sides.edit_in_roi(notes="mine")
    versions = one(sides.database, history, sides.key)
    assert run_push(sides.services, sides.integration).status == "COMPLETED"
    assert sides.roi_values("first_name", "email", "city", "notes") == (*before, "mine")
    assert one(sides.database, history, sides.key) == versions
    assert open_edits(sides.database) == 0
    sync(sides.services, sides.integration, CONTACT)
    sides.edit_in_roi(notes="mine again")
    run_push(sides.services, sides.integration)
    sync(sides.services, sides.integration, CONTACT)
    assert sides.roi_values("first_name", "email", "city", "notes") == (*before, "mine again")
    assert sides.softpro_records()[sides.key]["notes"] == "mine again"


@pytest.mark.parametrize("response", ["changed", "ids", "nothing"])
def test_a_created_row_survives_a_response_with_a_part_of_the_record(sides: BothSides, response: str) -> None:
    sides.sandbox.switch(writeResponse=response)
    columns = {"contact_type": "INDIVIDUAL", "first_name": "Ann", "last_name": "Lee", "city": "Waco"}
    made = create_in_roi(sides.database, CONTACT, "acme", **columns)
    assert run_push(sides.services, sides.integration).status == "COMPLETED"
    query = "select first_name, last_name, city, softpro_contact_id is null as unlinked from roi.contacts where id = %s"
    for _ in range(2):
        [row] = rows(sides.database, query, made)
        assert row == {"first_name": "Ann", "last_name": "Lee", "city": "Waco", "unlinked": False}
        sync(sides.services, sides.integration, CONTACT)
