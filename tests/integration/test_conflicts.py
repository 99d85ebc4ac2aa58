"""Resolve a record that both sides changed, and apply the decision on either side."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from softpro.errors import AlreadyDecided, NotFoundHere, OutOfDate, UsageError
from softpro.writeback.conflict_lock import Choices, Value
from softpro.writeback.field_values import decode
from softpro.writeback.resolve import resolve, resolve_some
from softpro.writeback.reverse import reversal

from ..support.conflict_review import ConflictScenario
from ..support.databases import one


def test_nothing_of_a_record_in_review_moves(in_review: ConflictScenario) -> None:
    in_review.push()
    conflict = in_review.conflict
    assert (conflict.status, conflict.kind) == ("OPEN", "FIELDS")
    assert [decode(text) for text in (conflict.base, conflict.softpro, conflict.roi)] == [
        {"notes": "as it was"},
        {"notes": "theirs"},
        {"notes": "ours"},
    ]
    assert in_review.notes == ("ours", "theirs")
    assert in_review.row is not None
    assert in_review.softpro_record is not None
    assert in_review.row["loan_amount"] == 200_000
    assert in_review.softpro_record["purchasePrice"] == 400_000


@pytest.mark.parametrize(
    ("choices", "kept", "winner"),
    [
        ("SOFTPRO", "theirs", "SOFTPRO"),
        ("ROI", "ours", "ROI"),
        ({"notes": "SOFTPRO"}, "theirs", "SOFTPRO"),
        ({"notes": "ROI"}, "ours", "ROI"),
        ({"notes": Value("both")}, "both", "MERGED"),
        ({"notes": Value("ours")}, "ours", "MERGED"),
        ({"notes": Value("theirs")}, "theirs", "MERGED"),
        ({"notes": Value(None)}, None, "MERGED"),
    ],
)
def test_a_decision_is_applied_on_both_sides_and_other_changes_flow(
    in_review: ConflictScenario, choices: Choices, kept: str | None, winner: str
) -> None:
    resolved = in_review.resolve(choices, reason="she knows")
    assert (resolved.status, resolved.resolved_by, resolved.reason) == ("RESOLVED", "ada", "she knows")
    assert decode(resolved.result or "") == {"notes": kept}
    assert {field: each["winner"] for field, each in resolved.decisions.items()} == {"notes": winner}
    in_review.assert_settled()
    row, there = in_review.row, in_review.softpro_record
    assert row is not None
    assert there is not None
    assert (row["notes"], there.get("notes")) == (kept, kept)
    assert (row["purchase_price"], there["purchasePrice"]) == (500_000, 500_000)
    assert (row["loan_amount"], there["loanAmount"]) == (300_000, 300_000)
    assert [each.id for each in in_review.conflicts()] == [resolved.id]


def test_the_next_push_loads_the_decision(in_review: ConflictScenario) -> None:
    in_review.resolve("ROI")
    in_review.push()
    assert in_review.notes == ("ours", "ours")


def test_a_conflict_is_decided_once(in_review: ConflictScenario) -> None:
    in_review.resolve("ROI")
    with pytest.raises(AlreadyDecided, match="by ada"):
        in_review.resolve("SOFTPRO")
    in_review.assert_settled()
    assert in_review.notes == ("ours", "ours")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, "missing: notes"),
        ({"notes": "ROI", "loan_amount": "ROI"}, "Not in conflict: loan_amount"),
        ({"notes": Value(["no text"])}, "notes: .* is not a text"),
        ({"notes": Value("a \0")}, "NUL"),
    ],
)
def test_choices_that_cannot_be_are_refused_and_nothing_changes(
    in_review: ConflictScenario, choices: Choices, message: str
) -> None:
    before = in_review.conflict
    with pytest.raises(UsageError, match=message):
        in_review.resolve(choices)
    assert in_review.conflict == before
    assert one(in_review.services.database, "select count(*) from raw.pending") == 0


@pytest.mark.parametrize("value", [12_345_678_901_234, "1e400", "1.001", "much"])
def test_money_that_the_column_cannot_hold_is_refused(scenario: ConflictScenario, value: object) -> None:
    scenario.edit(purchase_price=1)
    scenario.change_at_softpro(purchasePrice=2)
    scenario.sync()
    with pytest.raises(UsageError, match=r"purchase_price|cannot hold"):
        scenario.resolve({"purchase_price": Value(value)})
    assert scenario.conflict.status == "OPEN"


@pytest.mark.parametrize("choices", ["SOFTPRO", "ROI", {"notes": Value("both")}])
def test_a_field_edited_during_review_is_reviewed_again(in_review: ConflictScenario, choices: Choices) -> None:
    in_review.edit(notes="ours once more")
    with pytest.raises(OutOfDate, match="Edited in ROI since the conflict was recorded: notes"):
        in_review.resolve(choices)
    assert decode(in_review.conflict.roi) == {"notes": "ours once more"}
    in_review.resolve("ROI")
    in_review.assert_settled()
    assert in_review.notes == ("ours once more", "ours once more")


def test_another_field_edited_during_review_is_sent(in_review: ConflictScenario) -> None:
    in_review.edit(property_city="Springfield")
    in_review.resolve("SOFTPRO")
    in_review.assert_settled()
    assert in_review.notes == ("theirs", "theirs")
    assert in_review.softpro_record is not None
    assert in_review.softpro_record["propertyAddress"]["city"] == "Springfield"


def test_a_decision_on_an_outdated_softpro_version_is_refused(in_review: ConflictScenario) -> None:
    seen = in_review.conflict.updated_at
    in_review.change_at_softpro(notes="theirs once more")
    in_review.sync()
    assert decode(in_review.conflict.softpro) == {"notes": "theirs once more"}
    with pytest.raises(OutOfDate, match="since you read it"):
        in_review.resolve("ROI", seen=seen)
    in_review.resolve("ROI", seen=in_review.conflict.updated_at)
    in_review.assert_settled()
    assert in_review.notes == ("ours", "ours")


def test_a_change_by_softpro_after_the_decision_is_a_new_conflict(in_review: ConflictScenario) -> None:
    first = in_review.resolve("ROI")
    in_review.change_at_softpro(notes="theirs once more")
    in_review.sync()
    in_review.push()
    assert in_review.notes == ("ours", "theirs once more")
    [open_one] = [each for each in in_review.conflicts() if each.id != first.id]
    assert (open_one.status, decode(open_one.base)) == ("OPEN", {"notes": "theirs"})
    with in_review.services.database.connect() as connection:
        resolve(connection, in_review.integration.id, open_one.id, "SOFTPRO", by="ada")
    in_review.assert_settled()
    assert in_review.notes == ("theirs once more", "theirs once more")


def test_a_row_deleted_during_review_is_another_conflict(in_review: ConflictScenario) -> None:
    in_review.delete()
    with pytest.raises(OutOfDate, match="deleted in ROI since"):
        in_review.resolve("ROI")
    in_review.sync()
    assert in_review.conflict.kind == "DELETED_IN_ROI"
    in_review.resolve("ROI")
    in_review.assert_settled()
    assert (in_review.row, in_review.softpro_record) == (None, None)


def test_a_record_deleted_by_softpro_during_review_is_another_conflict(in_review: ConflictScenario) -> None:
    in_review.delete_at_softpro()
    with pytest.raises(OutOfDate, match="SoftPro has deleted"):
        in_review.resolve("SOFTPRO")
    in_review.push()
    assert in_review.conflict.kind == "DELETED_IN_SOFTPRO"
    in_review.resolve("SOFTPRO")
    in_review.assert_settled()
    assert (in_review.row, in_review.softpro_record) == (None, None)


def test_many_conflicts_are_decided_for_one_side_independently(in_review: ConflictScenario) -> None:
    unknown_id = uuid4()
    with in_review.services.database.connect() as connection:
        ended = resolve_some(
            connection,
            in_review.integration.id,
            [unknown_id, in_review.conflict.id, in_review.conflict.id],
            "SOFTPRO",
            by="ada",
        )
    assert [(each.conflict_id, type(each.error)) for each in ended] == [
        (unknown_id, NotFoundHere),
        (in_review.conflict.id, type(None)),
    ]
    in_review.assert_settled()
    assert in_review.notes == ("theirs", "theirs")


@pytest.mark.parametrize(
    ("choices", "kept", "takes_back"),
    [("SOFTPRO", "theirs", "ours"), ("ROI", "ours", "theirs"), ({"notes": Value("both")}, "both", "theirs")],
)
def test_a_decision_is_taken_back_by_a_new_edit_that_is_sent(
    in_review: ConflictScenario, choices: Choices, kept: str, takes_back: str
) -> None:
    assert reversal(in_review.conflict) == {}
    in_review.resolve(choices)
    in_review.assert_settled()
    assert in_review.notes == (kept, kept)
    assert reversal(in_review.conflict) == {"notes": takes_back}
    assert in_review.reverse().reversed_by == "grace"
    in_review.assert_settled()
    assert in_review.notes == (takes_back, takes_back)
    with pytest.raises(AlreadyDecided, match="by grace"):
        in_review.reverse()
    assert len(in_review.conflicts()) == 1


def edited(scenario: ConflictScenario) -> None:
    scenario.edit(notes="later")


@pytest.mark.parametrize(
    ("mishap", "message"),
    [(edited, "Changed since the decision: notes"), (ConflictScenario.delete, "no longer exists")],
)
def test_a_decision_is_not_reversed_over_later_changes(
    in_review: ConflictScenario, mishap: Callable[[ConflictScenario], None], message: str
) -> None:
    in_review.resolve("ROI")
    in_review.assert_settled()
    mishap(in_review)
    with pytest.raises(OutOfDate, match=message):
        in_review.reverse()


def test_an_open_or_unloaded_decision_is_not_reversed(in_review: ConflictScenario) -> None:
    with pytest.raises(UsageError, match="after it was made"):
        in_review.reverse()
    in_review.resolve("SOFTPRO")
    with pytest.raises(OutOfDate, match="not loaded yet"):
        in_review.reverse()
