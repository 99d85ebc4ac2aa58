"""What people change in `roi` reaches SoftPro, only that, and only once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from softpro.entities import EntityType, Mode, SyncType
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.runs import sync as runs_sync

from ..support.databases import one, rows
from ..support.product import sync
from ..support.writeback import Office, edit_here, open_edits, pushed

CONTACT = EntityType.CONTACT
OUTCOMES = "select field, outcome from softpro.outbox order by id"


def but(column: str, **changes: Any) -> list[Mapping]:
    """The default set of contacts, one mapping of it changed."""
    return [
        replace(each, **changes) if each.roi_systems_field == column else each for each in default_mappings(CONTACT)
    ]


def test_a_changed_field_is_sent_and_comes_back_as_no_change(office: Office) -> None:
    office.edit_here(email="new@example.com", custom={"vip": True})
    log = pushed(office.services, office.integration)
    assert (log.status, log.direction, log.mode) == ("COMPLETED", "ROI_TO_SOFTPRO", "push")
    there = office.there()[office.key]
    assert (there["email"], there["customFields"]["vip"]) == ("new@example.com", True)
    assert open_edits(office.database) == 0
    again = sync(office.services, office.integration, CONTACT)
    assert (again.records_updated, again.records_inserted) == (0, 0)
    assert pushed(office.services, office.integration).api_requests == 0


def test_only_what_changed_is_sent_and_null_clears(office: Office) -> None:
    office.edit_there(notes="theirs")  # which is not loaded yet
    office.edit_here(company=None, job_title="Escrow officer")
    pushed(office.services, office.integration)
    there = office.there()[office.key]
    assert (there["notes"], there["company"], there["jobTitle"]) == ("theirs", None, "Escrow officer")
    assert office.here("notes", "company", "job_title") == ("theirs", None, "Escrow officer")


def test_an_edit_that_is_taken_back_sends_nothing(office: Office) -> None:
    (before,) = office.here("notes")
    office.edit_here(notes="changed")
    office.edit_here(notes=before)
    assert pushed(office.services, office.integration).api_requests == 1  # its version
    assert [row["outcome"] for row in rows(office.database, OUTCOMES)] == ["AGREED", "AGREED"]


def test_a_field_goes_back_by_its_rule_and_one_that_fails_is_told_and_keeps_no_other_record_waiting(
    office: Office,
) -> None:
    rule = {"fromSoftPro": "$uppercase($)", "toSoftPro": "$ = 'WRONG' ? $error('not this') : $lowercase($)"}
    office.map_by(but("last_name", transformation_rule=rule))
    office.edit_here(last_name="SMITH")
    other = one(office.database, "select max(softpro_contact_id) from roi.contacts")
    edit_here(office.database, CONTACT, other, last_name="WRONG")
    log = pushed(office.services, office.integration)
    assert (log.status, log.records_processed, log.records_failed) == ("PARTIAL_SUCCESS", 2, 1)
    assert office.there()[office.key]["lastName"] == "smith"
    assert "lastName: " in one(office.database, "select error from softpro.pushes")
    edit_here(office.database, CONTACT, other, last_name="JONES")  # which makes it due again
    assert pushed(office.services, office.integration).records_failed == 0
    assert office.there()[other]["lastName"] == "jones"


def test_what_softpro_refuses_waits_for_another_edit(office: Office) -> None:
    office.edit_here(contact_type="NONE SUCH", notes="a note")
    assert pushed(office.services, office.integration).records_failed == 1
    assert pushed(office.services, office.integration).records_processed == 0
    assert office.there()[office.key]["contactType"] != "NONE SUCH"
    office.edit_here(contact_type="ATTORNEY")
    assert pushed(office.services, office.integration).records_failed == 0
    there = office.there()[office.key]
    assert (there["contactType"], there["notes"]) == ("ATTORNEY", "a note")


def test_a_named_record_is_sent_though_it_is_not_due(office: Office) -> None:
    other = one(office.database, "select max(softpro_contact_id) from roi.contacts")
    for key in (office.key, other):
        edit_here(office.database, CONTACT, key, notes="ours")
    (roi_id,) = office.here("id")
    pushed(office.services, office.integration, records=[roi_id])
    assert [office.there()[key].get("notes") == "ours" for key in (office.key, other)] == [True, False]


# Which side a field belongs to


def test_a_field_that_is_only_sent_stays_what_it_is_here(office: Office) -> None:
    mine = [
        Mapping(CONTACT, "customFields.rating", "custom.rating", "ROI_TO_SOFTPRO"),
        *but("fax", direction="ROI_TO_SOFTPRO"),
    ]
    office.map_by(mine)
    office.edit_here(fax="555", custom={"rating": 5})
    pushed(office.services, office.integration)
    there = office.there()[office.key]
    assert (there["fax"], there["customFields"]["rating"]) == ("555", 5)
    office.edit_there(fax="666", notes="theirs")
    office.sync()
    assert office.here("fax", "notes") == ("555", "theirs")
    assert office.here("custom")[0]["rating"] == 5


def test_a_field_that_is_only_loaded_is_softpros_again_with_its_next_version(office: Office) -> None:
    office.map_by(but("notes", direction="SOFTPRO_TO_ROI"))
    office.edit_here(notes="ours")
    assert pushed(office.services, office.integration).api_requests == 0
    office.edit_there(company="Theirs")
    office.sync()
    assert office.here("notes", "company") == (office.there()[office.key].get("notes"), "Theirs")
    assert open_edits(office.database) == 0


def test_a_field_that_no_mapping_names_is_left_alone(office: Office) -> None:
    office.map_by([each for each in default_mappings(CONTACT) if each.roi_systems_field != "suffix"])
    office.edit_here(suffix="Jr.", fax="555")
    office.edit_there(notes="theirs")
    pushed(office.services, office.integration)
    office.sync(mode=Mode.FULL)
    assert office.here("suffix", "fax", "notes") == ("Jr.", "555", "theirs")
    there = office.there()[office.key]
    assert (there.get("suffix") == "Jr.", there["fax"]) == (False, "555")
    assert pushed(office.services, office.integration).api_requests == 0


def test_another_mapping_is_no_change_at_softpro(office: Office) -> None:
    office.edit_there(email="as.it.was@example.com")
    office.sync()
    office.edit_here(notes="ours", email="ours@example.com")
    office.map_by(but("email", transformation_rule={"fromSoftPro": "$uppercase($)", "toSoftPro": "$lowercase($)"}))
    runs_sync.remap(office.database, office.integration, CONTACT, sync_type=SyncType.MANUAL, run_id="remap")
    assert office.here("notes", "email") == ("ours", "ours@example.com")
    log = pushed(office.services, office.integration)
    assert (log.status, log.records_processed, log.error_message) == ("COMPLETED", 1, None)
    there = office.there()[office.key]
    assert (there["notes"], there["email"]) == ("ours", "ours@example.com")
    assert office.here("email") == ("OURS@EXAMPLE.COM",)
    assert rows(office.database, "select * from softpro.conflicts") == []
