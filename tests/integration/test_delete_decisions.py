"""One side deleted what the other one changed, or very many: a person decides."""

from __future__ import annotations

import pytest

from softpro.errors import OutOfDate, UsageError
from softpro.writeback import delete_guard
from softpro.writeback.field_values import decode

from ..support.conflict_review import TRANSACTION, Both
from ..support.databases import execute, one


@pytest.fixture
def deleted(both: Both) -> Both:
    """Deleted in ROI, changed at SoftPro."""
    both.delete()
    both.change(notes="theirs")
    both.sync()
    assert (both.conflict.kind, both.conflict.status, both.row) == ("DELETED_IN_ROI", "OPEN", None)
    return both


def test_a_delete_that_softpro_wins_over_brings_the_row_back_as_it_is_there(deleted: Both) -> None:
    deleted.resolve("SOFTPRO")
    deleted.rests()
    assert deleted.notes == ("theirs", "theirs")


def test_a_delete_that_roi_wins_with_is_sent(deleted: Both) -> None:
    deleted.resolve("ROI")
    deleted.rests()
    assert (deleted.row, deleted.there) == (None, None)


def test_a_delete_that_would_not_be_sent_cannot_win(deleted: Both) -> None:
    execute(deleted.services.database, "update softpro.integrations set push_deletes = false")
    with pytest.raises(UsageError, match="not sent to SoftPro"):
        deleted.resolve("ROI")
    with pytest.raises(UsageError, match="as a whole"):
        deleted.resolve({"notes": "SOFTPRO"})
    assert deleted.conflict.status == "OPEN"


def test_what_is_gone_on_both_sides_is_no_conflict_any_more(deleted: Both) -> None:
    deleted.delete_there()
    assert (deleted.conflict.status, deleted.conflict.reason) == ("RESOLVED", "Both sides deleted it")
    deleted.rests()


@pytest.fixture
def gone(both: Both) -> Both:
    """Changed in ROI, deleted at SoftPro."""
    both.edit(notes="ours")
    both.delete_there()
    both.push()
    assert (both.conflict.kind, both.conflict.status) == ("DELETED_IN_SOFTPRO", "OPEN")
    assert both.row is not None
    return both


def test_a_row_that_softpro_deleted_is_deleted_where_softpro_wins(gone: Both) -> None:
    gone.resolve("SOFTPRO")
    assert gone.row is None
    gone.rests()


def test_a_row_that_softpro_deleted_is_sent_as_a_new_record_where_roi_wins(gone: Both) -> None:
    gone.resolve("ROI")
    gone.rests()
    row = gone.row
    assert row is not None
    assert row["softpro_order_id"] != gone.entity_id
    assert gone.sandbox.records(gone.organization)[row["softpro_order_id"]]["notes"] == "ours"


def test_a_row_that_softpro_deleted_and_that_was_edited_meanwhile_is_looked_at_again(gone: Both) -> None:
    gone.edit(property_city="Springfield")
    with pytest.raises(OutOfDate, match="property_city"):
        gone.resolve("SOFTPRO")
    assert decode(gone.conflict.roi) == {"notes": "ours", "property_city": "Springfield"}
    gone.resolve("SOFTPRO")
    assert gone.row is None


@pytest.fixture
def too_many(both: Both) -> Both:
    """So many are deleted at once that they wait for a person."""
    execute(both.services.database, "delete from roi.transactions")
    both.push()
    return both


def waiting(both: Both) -> int:
    query = "select count(*) from softpro.outbox where operation = 'DELETE' and settled_at is null"
    return int(one(both.services.database, query))


def test_deletes_that_are_too_many_are_sent_once_a_person_lets_them_pass(too_many: Both) -> None:
    many = waiting(too_many)
    assert many == len(too_many.sandbox.records(too_many.organization))
    with too_many.services.database.connect() as connection:
        with pytest.raises(OutOfDate, match=f"{many} deletes of transactions wait now, not 1"):
            delete_guard.approve(connection, too_many.integration, TRANSACTION, 1, "ada")
        assert delete_guard.approve(connection, too_many.integration, TRANSACTION, many, "ada") == many
        with pytest.raises(OutOfDate, match="0 deletes"):
            delete_guard.approve(connection, too_many.integration, TRANSACTION, many, "ada")
    too_many.push()
    assert too_many.sandbox.records(too_many.organization) == {}
    too_many.rests()


def test_deletes_that_are_withdrawn_bring_their_rows_back(too_many: Both) -> None:
    many = waiting(too_many)
    with too_many.services.database.connect() as connection:
        assert delete_guard.withdraw(connection, too_many.integration, TRANSACTION, many, "ada") == many
    too_many.rests()
    alive = "select count(*) from roi.transactions where deleted_at is null"
    assert one(too_many.services.database, alive) == many == len(too_many.sandbox.records(too_many.organization))
    assert too_many.row is not None  # by the id that it had
