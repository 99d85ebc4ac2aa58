"""Merge records that both sides changed: one-sided changes apply, a strategy or a user decides the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from softpro.db.database import Database
from softpro.entities import EntityType

from ..support.databases import one, rows
from ..support.fixture_types import StartSandbox
from ..support.product import connect_acme
from ..support.writeback import BothSides, edit_in_roi, exact, open_edits, run_push

CONTACT = EntityType.CONTACT


def test_a_field_that_one_side_changed_is_applied_on_both(sides: BothSides) -> None:
    sides.edit_in_roi(notes="ours", custom={"mine": 1})
    sides.edit_at_softpro(company="Theirs", customFields={"theirs": 2})
    sides.sync()
    run_push(sides.services, sides.integration)
    there = sides.softpro_records()[sides.key]
    assert (there["notes"], there["company"]) == ("ours", "Theirs")
    assert {"mine": 1, "theirs": 2}.items() <= there["customFields"].items()
    assert {"mine": 1, "theirs": 2}.items() <= sides.roi_values("custom")[0].items()
    assert rows(sides.database, "select * from softpro.conflicts") == []


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
    sides: BothSides, strategy: str, ours_later: bool, ours: bool
) -> None:
    sides.change_settings(conflict_strategy=strategy)
    if not ours_later:
        sides.edit_in_roi(notes="ours", fax="1")
    sides.edit_at_softpro(notes="theirs", company="Theirs")
    if ours_later:
        sides.edit_in_roi(notes="ours", fax="1")
    sides.sync()
    run_push(sides.services, sides.integration)
    notes = "ours" if ours else "theirs"
    there = sides.softpro_records()[sides.key]
    assert sides.roi_values("notes", "company", "fax") == (notes, "Theirs", "1")
    assert (there["notes"], there["company"], there["fax"]) == (notes, "Theirs", "1")
    [conflict] = rows(sides.database, "select * from softpro.conflicts")
    assert (conflict["status"], conflict["kind"], conflict["resolved_by"]) == ("RESOLVED", "FIELDS", None)
    assert (conflict["softpro"], conflict["roi"], conflict["result"]) == (
        {"notes": "theirs"},
        {"notes": "ours"},
        {"notes": notes},
    )
    assert conflict["decisions"]["notes"]["winner"] == ("ROI" if ours else "SOFTPRO")
    assert open_edits(sides.database) == 0


def test_the_clocks_of_both_sides_are_compared(start_sandbox: StartSandbox, database: Database) -> None:
    """SoftPro's clock is an hour fast, so its earlier edit seems to be later."""
    sandbox = start_sandbox(transactions=0, contacts=3, clockSkewSeconds=3600)
    sides = BothSides(*connect_acme(database, sandbox), sandbox, sandbox.organizations[0])
    sides.change_settings(conflict_strategy="NEWEST_WINS")
    there = sides.softpro_records()[sides.key]
    hence = (
        (datetime.now(UTC) + timedelta(hours=1, seconds=-10)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
    sandbox.put(sandbox.organizations[0], exact({**there, "notes": "theirs", "updatedAt": hence}), "CONTACT")
    sides.edit_in_roi(notes="ours")
    sides.sync()
    assert sides.roi_values("notes") == ("ours",)
    assert 3_595 < one(database, "select clock_ahead_seconds from softpro.capabilities") < 3_605


def test_the_closest_strategy_counts(sides: BothSides) -> None:
    sides.change_settings(
        conflict_strategy="ROI_WINS",
        conflict_overrides={"contacts": "SOFTPRO_WINS", "contacts.notes": "ROI_WINS", "contacts.custom": "MERGE"},
    )
    sides.edit_in_roi(notes="ours", fax="ours", custom={"tags": ["a", "b"], "deep": {"x": 1}})
    sides.edit_at_softpro(notes="theirs", fax="theirs", customFields={"tags": ["b", "c"], "deep": {"y": 2}})
    sides.sync()
    run_push(sides.services, sides.integration)
    there = sides.softpro_records()[sides.key]
    assert (there["notes"], there["fax"]) == ("ours", "theirs")
    assert there["customFields"]["tags"] == ["b", "c", "a"]
    assert there["customFields"]["deep"] == {"y": 2, "x": 1}
    custom = sides.roi_values("custom")[0]
    assert (custom["tags"], custom["deep"]) == (["b", "c", "a"], {"y": 2, "x": 1})


def test_in_review_nothing_of_the_record_moves_and_the_others_flow(sides: BothSides) -> None:
    sides.change_settings(conflict_strategy="MANUAL_REVIEW")
    (before,) = sides.roi_values("company")
    sides.edit_in_roi(notes="ours", fax="ours")
    sides.edit_at_softpro(notes="theirs", company="Theirs")
    other = one(sides.database, "select max(softpro_contact_id) from roi.contacts")
    edit_in_roi(sides.database, CONTACT, other, notes="of another")
    for _ in range(2):
        sides.sync()
        run_push(sides.services, sides.integration)
    there = sides.softpro_records()
    assert (there[sides.key]["notes"], there[sides.key].get("fax")) != ("ours", "ours")
    assert there[other]["notes"] == "of another"
    assert sides.roi_values("notes", "fax", "company") == ("ours", "ours", before)
    [conflict] = rows(sides.database, "select * from softpro.conflicts")
    assert (conflict["status"], conflict["result"]) == ("OPEN", None)
    sides.edit_at_softpro(notes="ours")  # both sides now agree
    sides.sync()
    run_push(sides.services, sides.integration)
    assert one(sides.database, "select status from softpro.conflicts") == "RESOLVED"
    assert sides.roi_values("notes", "fax", "company") == ("ours", "ours", "Theirs")
    assert sides.softpro_records()[sides.key]["fax"] == "ours"
