"""Both sides changed a record, and a person decides: what becomes of it on either side."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from softpro.errors import DecidedAlready, NotFoundHere, OutOfDate, UsageError
from softpro.writeback.field_values import decode
from softpro.writeback.resolve import resolve, resolve_some
from softpro.writeback.reverse import reversal
from softpro.writeback.review import Choices, Value

from ..support.conflict_review import Both
from ..support.databases import one


def test_nothing_of_a_record_in_review_moves(in_review: Both) -> None:
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
    assert in_review.there is not None
    assert in_review.row["loan_amount"] == 200_000
    assert in_review.there["purchasePrice"] == 400_000


@pytest.mark.parametrize(
    ("choices", "stands", "winner"),
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
def test_what_a_person_decides_stands_on_both_sides_and_what_one_side_changed_flows(
    in_review: Both, choices: Choices, stands: str | None, winner: str
) -> None:
    resolved = in_review.resolve(choices, reason="she knows")
    assert (resolved.status, resolved.resolved_by, resolved.reason) == ("RESOLVED", "ada", "she knows")
    assert decode(resolved.result or "") == {"notes": stands}
    assert {field: each["winner"] for field, each in resolved.decisions.items()} == {"notes": winner}
    in_review.rests()
    row, there = in_review.row, in_review.there
    assert row is not None
    assert there is not None
    assert (row["notes"], there.get("notes")) == (stands, stands)
    assert (row["purchase_price"], there["purchasePrice"]) == (500_000, 500_000)
    assert (row["loan_amount"], there["loanAmount"]) == (300_000, 300_000)
    assert [each.id for each in in_review.conflicts()] == [resolved.id]


def test_who_pushes_next_loads_what_was_decided(in_review: Both) -> None:
    in_review.resolve("ROI")
    in_review.push()
    assert in_review.notes == ("ours", "ours")


def test_a_conflict_is_decided_once(in_review: Both) -> None:
    in_review.resolve("ROI")
    with pytest.raises(DecidedAlready, match="by ada"):
        in_review.resolve("SOFTPRO")
    in_review.rests()
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
    in_review: Both, choices: Choices, message: str
) -> None:
    before = in_review.conflict
    with pytest.raises(UsageError, match=message):
        in_review.resolve(choices)
    assert in_review.conflict == before
    assert one(in_review.services.database, "select count(*) from raw.pending") == 0


@pytest.mark.parametrize("value", [12_345_678_901_234, "1e400", "1.001", "much"])
def test_money_that_the_column_cannot_hold_is_refused(both: Both, value: object) -> None:
    both.edit(purchase_price=1)
    both.change(purchasePrice=2)
    both.sync()
    with pytest.raises(UsageError, match=r"purchase_price|can't hold"):
        both.resolve({"purchase_price": Value(value)})
    assert both.conflict.status == "OPEN"


@pytest.mark.parametrize("choices", ["SOFTPRO", "ROI", {"notes": Value("both")}])
def test_a_field_that_was_edited_meanwhile_is_looked_at_again(in_review: Both, choices: Choices) -> None:
    in_review.edit(notes="ours once more")
    with pytest.raises(OutOfDate, match="Changed here since the conflict was noted: notes"):
        in_review.resolve(choices)
    assert decode(in_review.conflict.roi) == {"notes": "ours once more"}
    in_review.resolve("ROI")
    in_review.rests()
    assert in_review.notes == ("ours once more", "ours once more")


def test_another_field_that_was_edited_meanwhile_is_sent(in_review: Both) -> None:
    in_review.edit(property_city="Springfield")
    in_review.resolve("SOFTPRO")
    in_review.rests()
    assert in_review.notes == ("theirs", "theirs")
    assert in_review.there is not None
    assert in_review.there["propertyAddress"]["city"] == "Springfield"


def test_who_looked_before_softpro_changed_it_once_more_looks_again(in_review: Both) -> None:
    seen = in_review.conflict.updated_at
    in_review.change(notes="theirs once more")
    in_review.sync()
    assert decode(in_review.conflict.softpro) == {"notes": "theirs once more"}
    with pytest.raises(OutOfDate, match="since you looked at it"):
        in_review.resolve("ROI", seen=seen)
    in_review.resolve("ROI", seen=in_review.conflict.updated_at)
    in_review.rests()
    assert in_review.notes == ("ours", "ours")


def test_what_softpro_changes_once_a_decision_is_made_is_a_conflict_anew(in_review: Both) -> None:
    first = in_review.resolve("ROI")
    in_review.change(notes="theirs once more")
    in_review.sync()
    in_review.push()
    assert in_review.notes == ("ours", "theirs once more")
    [open_one] = [each for each in in_review.conflicts() if each.id != first.id]
    assert (open_one.status, decode(open_one.base)) == ("OPEN", {"notes": "theirs"})
    with in_review.services.database.connect() as connection:
        resolve(connection, in_review.integration.id, open_one.id, "SOFTPRO", by="ada")
    in_review.rests()
    assert in_review.notes == ("theirs once more", "theirs once more")


def test_a_row_that_was_deleted_meanwhile_is_another_conflict(in_review: Both) -> None:
    in_review.delete()
    with pytest.raises(OutOfDate, match="deleted here meanwhile"):
        in_review.resolve("ROI")
    in_review.sync()
    assert in_review.conflict.kind == "DELETED_IN_ROI"
    in_review.resolve("ROI")
    in_review.rests()
    assert (in_review.row, in_review.there) == (None, None)


def test_a_record_that_softpro_deleted_meanwhile_is_another_conflict(in_review: Both) -> None:
    in_review.delete_there()
    with pytest.raises(OutOfDate, match="SoftPro has deleted"):
        in_review.resolve("SOFTPRO")
    in_review.push()
    assert in_review.conflict.kind == "DELETED_IN_SOFTPRO"
    in_review.resolve("SOFTPRO")
    in_review.rests()
    assert (in_review.row, in_review.there) == (None, None)


def test_many_are_decided_for_one_side_each_by_itself(in_review: Both) -> None:
    nobodys = uuid4()
    with in_review.services.database.connect() as connection:
        ended = resolve_some(
            connection,
            in_review.integration.id,
            [nobodys, in_review.conflict.id, in_review.conflict.id],
            "SOFTPRO",
            by="ada",
        )
    assert [(each.conflict_id, type(each.error)) for each in ended] == [
        (nobodys, NotFoundHere),
        (in_review.conflict.id, type(None)),
    ]
    in_review.rests()
    assert in_review.notes == ("theirs", "theirs")


@pytest.mark.parametrize(
    ("choices", "stands", "takes_back"),
    [("SOFTPRO", "theirs", "ours"), ("ROI", "ours", "theirs"), ({"notes": Value("both")}, "both", "theirs")],
)
def test_a_decision_is_taken_back_by_a_new_edit_that_is_sent(
    in_review: Both, choices: Choices, stands: str, takes_back: str
) -> None:
    assert reversal(in_review.conflict) == {}
    in_review.resolve(choices)
    in_review.rests()
    assert in_review.notes == (stands, stands)
    assert reversal(in_review.conflict) == {"notes": takes_back}
    assert in_review.reverse().reversed_by == "grace"
    in_review.rests()
    assert in_review.notes == (takes_back, takes_back)
    with pytest.raises(DecidedAlready, match="by grace"):
        in_review.reverse()
    assert len(in_review.conflicts()) == 1


def edited(both: Both) -> None:
    both.edit(notes="later")


@pytest.mark.parametrize(
    ("mishap", "message"), [(edited, "Changed since that was decided: notes"), (Both.delete, "not there any more")]
)
def test_a_decision_is_not_taken_back_over_what_came_later(
    in_review: Both, mishap: Callable[[Both], None], message: str
) -> None:
    in_review.resolve("ROI")
    in_review.rests()
    mishap(in_review)
    with pytest.raises(OutOfDate, match=message):
        in_review.reverse()


def test_what_is_open_or_not_loaded_yet_is_not_taken_back(in_review: Both) -> None:
    with pytest.raises(UsageError, match="once they are made"):
        in_review.reverse()
    in_review.resolve("SOFTPRO")
    with pytest.raises(OutOfDate, match="not loaded yet"):
        in_review.reverse()
