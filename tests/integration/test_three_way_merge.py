"""Where both sides changed a record: what each changed alone stands, a strategy or a person decides the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from softpro.db.database import Database
from softpro.entities import EntityType

from ..support.databases import one, rows
from ..support.fixture_types import StartSandbox
from ..support.product import between
from ..support.writeback import Office, edit_here, exact, open_edits, pushed

CONTACT = EntityType.CONTACT


def test_what_each_side_changed_alone_stands_on_both(office: Office) -> None:
    office.edit_here(notes="ours", custom={"mine": 1})
    office.edit_there(company="Theirs", customFields={"theirs": 2})
    office.sync()
    pushed(office.services, office.integration)
    there = office.there()[office.key]
    assert (there["notes"], there["company"]) == ("ours", "Theirs")
    assert {"mine": 1, "theirs": 2}.items() <= there["customFields"].items()
    assert {"mine": 1, "theirs": 2}.items() <= office.here("custom")[0].items()
    assert rows(office.database, "select * from softpro.conflicts") == []


@pytest.mark.parametrize(
    ("strategy", "ours_later", "ours"),
    [
        ("SOFTPRO_WINS", True, False),
        ("ROI_WINS", False, True),
        ("NEWEST_WINS", True, True),
        ("NEWEST_WINS", False, False),
        ("MERGE", True, True),
        ("MERGE", False, False),
    ],
)
def test_where_both_changed_a_field_the_strategy_decides(
    office: Office, strategy: str, ours_later: bool, ours: bool
) -> None:
    office.choose(conflict_strategy=strategy)
    if not ours_later:
        office.edit_here(notes="ours", fax="1")
    office.edit_there(notes="theirs", company="Theirs")
    if ours_later:
        office.edit_here(notes="ours", fax="1")
    office.sync()
    pushed(office.services, office.integration)
    notes = "ours" if ours else "theirs"
    there = office.there()[office.key]
    assert office.here("notes", "company", "fax") == (notes, "Theirs", "1")
    assert (there["notes"], there["company"], there["fax"]) == (notes, "Theirs", "1")
    [conflict] = rows(office.database, "select * from softpro.conflicts")
    assert (conflict["status"], conflict["kind"], conflict["resolved_by"]) == ("RESOLVED", "FIELDS", None)
    assert (conflict["softpro"], conflict["roi"], conflict["result"]) == (
        {"notes": "theirs"},
        {"notes": "ours"},
        {"notes": notes},
    )
    assert conflict["decisions"]["notes"]["winner"] == ("ROI" if ours else "SOFTPRO")
    assert open_edits(office.database) == 0


def test_the_clocks_of_both_sides_are_compared(start_sandbox: StartSandbox, database: Database) -> None:
    """SoftPro's is an hour fast: its earlier edit says that it is later."""
    sandbox = start_sandbox(transactions=0, contacts=3, clockSkewSeconds=3600)
    office = Office(*between(database, sandbox), sandbox, sandbox.organizations[0])
    office.choose(conflict_strategy="NEWEST_WINS")
    there = office.there()[office.key]
    hence = (
        (datetime.now(UTC) + timedelta(hours=1, seconds=-10)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
    sandbox.put(sandbox.organizations[0], exact({**there, "notes": "theirs", "updatedAt": hence}), "CONTACT")
    office.edit_here(notes="ours")
    office.sync()
    assert office.here("notes") == ("ours",)
    assert 3_595 < one(database, "select clock_ahead_seconds from softpro.capabilities") < 3_605


def test_the_closest_strategy_counts(office: Office) -> None:
    office.choose(
        conflict_strategy="ROI_WINS",
        conflict_overrides={"contacts": "SOFTPRO_WINS", "contacts.notes": "ROI_WINS", "contacts.custom": "MERGE"},
    )
    office.edit_here(notes="ours", fax="ours", custom={"tags": ["a", "b"], "deep": {"x": 1}})
    office.edit_there(notes="theirs", fax="theirs", customFields={"tags": ["b", "c"], "deep": {"y": 2}})
    office.sync()
    pushed(office.services, office.integration)
    there = office.there()[office.key]
    assert (there["notes"], there["fax"]) == ("ours", "theirs")
    assert there["customFields"]["tags"] == ["b", "c", "a"]
    assert there["customFields"]["deep"] == {"y": 2, "x": 1}
    custom = office.here("custom")[0]
    assert (custom["tags"], custom["deep"]) == (["b", "c", "a"], {"y": 2, "x": 1})


def test_in_review_nothing_of_the_record_moves_and_the_others_flow(office: Office) -> None:
    office.choose(conflict_strategy="MANUAL_REVIEW")
    (before,) = office.here("company")
    office.edit_here(notes="ours", fax="ours")
    office.edit_there(notes="theirs", company="Theirs")
    other = one(office.database, "select max(softpro_contact_id) from roi.contacts")
    edit_here(office.database, CONTACT, other, notes="of another")
    for _ in range(2):
        office.sync()
        pushed(office.services, office.integration)
    there = office.there()
    assert (there[office.key]["notes"], there[office.key].get("fax")) != ("ours", "ours")
    assert there[other]["notes"] == "of another"
    assert office.here("notes", "fax", "company") == ("ours", "ours", before)
    [conflict] = rows(office.database, "select * from softpro.conflicts")
    assert (conflict["status"], conflict["result"]) == ("OPEN", None)
    office.edit_there(notes="ours")  # they come to agree by themselves
    office.sync()
    pushed(office.services, office.integration)
    assert one(office.database, "select status from softpro.conflicts") == "RESOLVED"
    assert office.here("notes", "fax", "company") == ("ours", "ours", "Theirs")
    assert office.there()[office.key]["fax"] == "ours"
