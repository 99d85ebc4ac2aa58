"""Decide about records that one side deleted and the other changed, and about mass deletes."""

from __future__ import annotations

import pytest

from softpro.errors import OutOfDate, UsageError
from softpro.writeback import delete_guard
from softpro.writeback.field_values import decode

from ..support.conflict_review import TRANSACTION, ConflictScenario
from ..support.databases import execute, one


@pytest.fixture
def deleted(scenario: ConflictScenario) -> ConflictScenario:
    """Return a conflict about a record deleted in ROI and changed at SoftPro."""
    scenario.delete()
    scenario.change_at_softpro(notes="theirs")
    scenario.sync()
    assert (scenario.conflict.kind, scenario.conflict.status, scenario.row) == ("DELETED_IN_ROI", "OPEN", None)
    return scenario


def test_a_delete_that_softpro_wins_over_restores_the_row_from_softpro(deleted: ConflictScenario) -> None:
    deleted.resolve("SOFTPRO")
    deleted.assert_settled()
    assert deleted.notes == ("theirs", "theirs")


def test_a_delete_that_roi_wins_with_is_sent(deleted: ConflictScenario) -> None:
    deleted.resolve("ROI")
    deleted.assert_settled()
    assert (deleted.row, deleted.softpro_record) == (None, None)


def test_a_delete_that_would_not_be_sent_cannot_win(deleted: ConflictScenario) -> None:
    execute(deleted.services.database, "update softpro.integrations set push_deletes = false")
    with pytest.raises(UsageError, match="not sent to SoftPro"):
        deleted.resolve("ROI")
    with pytest.raises(UsageError, match="about the whole record"):
        deleted.resolve({"notes": "SOFTPRO"})
    assert deleted.conflict.status == "OPEN"


def test_a_record_deleted_on_both_sides_is_no_longer_a_conflict(deleted: ConflictScenario) -> None:
    deleted.delete_at_softpro()
    assert (deleted.conflict.status, deleted.conflict.reason) == ("RESOLVED", "Both sides deleted it")
    deleted.assert_settled()


@pytest.fixture
def gone(scenario: ConflictScenario) -> ConflictScenario:
    """Return a conflict about a record changed in ROI and deleted at SoftPro."""
    scenario.edit(notes="ours")
    scenario.delete_at_softpro()
    scenario.push()
    assert (scenario.conflict.kind, scenario.conflict.status) == ("DELETED_IN_SOFTPRO", "OPEN")
    assert scenario.row is not None
    return scenario


def test_a_row_that_softpro_deleted_is_deleted_where_softpro_wins(gone: ConflictScenario) -> None:
    gone.resolve("SOFTPRO")
    assert gone.row is None
    gone.assert_settled()


def test_a_row_that_softpro_deleted_is_sent_as_a_new_record_where_roi_wins(gone: ConflictScenario) -> None:
    gone.resolve("ROI")
    gone.assert_settled()
    row = gone.row
    assert row is not None
    assert row["softpro_order_id"] != gone.entity_id
    assert gone.sandbox.records(gone.organization)[row["softpro_order_id"]]["notes"] == "ours"


def test_a_row_that_softpro_deleted_and_that_was_edited_during_review_is_reviewed_again(gone: ConflictScenario) -> None:
    gone.edit(property_city="Springfield")
    with pytest.raises(OutOfDate, match="property_city"):
        gone.resolve("SOFTPRO")
    assert decode(gone.conflict.roi) == {"notes": "ours", "property_city": "Springfield"}
    gone.resolve("SOFTPRO")
    assert gone.row is None


@pytest.fixture
def too_many(scenario: ConflictScenario) -> ConflictScenario:
    """Delete more rows than the limit allows, so that they wait for approval."""
    execute(scenario.services.database, "delete from roi.transactions")
    scenario.push()
    return scenario


def waiting(scenario: ConflictScenario) -> int:
    query = "select count(*) from softpro.outbox where operation = 'DELETE' and settled_at is null"
    return int(one(scenario.services.database, query))


def test_deletes_above_the_limit_are_sent_once_a_user_approves_them(too_many: ConflictScenario) -> None:
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
    too_many.assert_settled()


def test_deletes_that_are_withdrawn_bring_their_rows_back(too_many: ConflictScenario) -> None:
    many = waiting(too_many)
    with too_many.services.database.connect() as connection:
        assert delete_guard.withdraw(connection, too_many.integration, TRANSACTION, many, "ada") == many
    too_many.assert_settled()
    alive = "select count(*) from roi.transactions where deleted_at is null"
    assert one(too_many.services.database, alive) == many == len(too_many.sandbox.records(too_many.organization))
    assert too_many.row is not None  # under its former id
