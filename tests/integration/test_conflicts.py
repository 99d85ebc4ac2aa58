"""Both sides changed a record, and a person decides: what becomes of it on either side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import sql

from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import DecidedAlready, NotFoundHere, OutOfDate, UsageError
from softpro.pushing import push
from softpro.services import Services
from softpro.store import conflicts
from softpro.store.conflicts import Conflict
from softpro.store.integrations import Integration
from softpro.store.leases import Run
from softpro.writeback import deletes
from softpro.writeback.resolve import resolve, resolve_some
from softpro.writeback.reverse import reversal, reverse
from softpro.writeback.review import Choices, Value
from softpro.writeback.settle import settle_missing
from softpro.writeback.values import decode

from ..support.databases import execute, one, rows
from ..support.kinds import Connected
from ..support.product import sync
from ..support.vendor import Sandbox

TRANSACTION = EntityType.TRANSACTION
OPEN = "select count(*) from softpro.outbox where settled_at is null"


@dataclass(frozen=True)
class Both:
    """An organization under MANUAL_REVIEW that sends deletes, its transactions loaded, and one of them."""

    services: Services
    integration: Integration
    sandbox: Sandbox
    organization: str
    roi_id: UUID
    entity_id: str

    def edit(self, **values: object) -> None:
        """Somebody changes the row."""
        query = sql.SQL("update roi.transactions set {} where id = {}").format(
            sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in values.items()
            ),
            self.roi_id,
        )
        execute(self.services.database, query)

    def delete_there(self) -> None:
        """SoftPro deletes the record, and a push finds out."""
        self.sandbox.delete(self.organization, self.entity_id)
        with self.services.database.connect() as connection:
            [log] = connection.execute("select id, clock_timestamp() as now from softpro.sync_logs limit 1").fetchall()
            stream = (self.integration.id, self.integration.organization_id, TRANSACTION)
            settle_missing(connection, Run(log["id"], *stream, Mode.PUSH, None, ()), self.entity_id, log["now"])

    def delete(self) -> None:
        execute(self.services.database, "delete from roi.transactions where id = %s", self.roi_id)

    def change(self, **fields: object) -> None:
        """Somebody changes the record at SoftPro."""
        with self.services.client(self.integration) as client:
            client.change(TRANSACTION, self.entity_id, fields, None)

    def sync(self) -> None:
        assert sync(self.services, self.integration, TRANSACTION).succeeded

    def push(self) -> None:
        log = push(self.services, self.integration, TRANSACTION, sync_type=SyncType.MANUAL, run_id=f"test__{uuid4()}")
        assert (log.status, log.records_failed) == ("COMPLETED", 0), log.error_message

    @property
    def row(self) -> dict[str, Any] | None:
        found = rows(self.services.database, "select * from roi.transactions where id = %s", self.roi_id)
        return found[0] if found and found[0]["deleted_at"] is None else None

    @property
    def there(self) -> dict[str, Any] | None:
        return self.sandbox.records(self.organization).get(self.entity_id)

    @property
    def notes(self) -> tuple[Any, Any]:
        """The field on both sides."""
        assert self.row is not None
        assert self.there is not None
        return self.row["notes"], self.there["notes"]

    def conflicts(self) -> list[Conflict]:
        with self.services.database.connect() as connection:
            found, total = conflicts.page(
                connection, self.integration.id, status=None, entity_type=None, limit=50, offset=0
            )
        assert total == len(found)
        return found

    @property
    def conflict(self) -> Conflict:
        [found] = self.conflicts()
        return found

    def resolve(self, choices: Choices, **more: Any) -> Conflict:
        with self.services.database.connect() as connection:
            return resolve(connection, self.integration.id, self.conflict.id, choices, by="ada", **more)

    def reverse(self) -> Conflict:
        with self.services.database.connect() as connection:
            return reverse(connection, self.integration.id, self.conflict.id, by="grace")

    def rests(self) -> None:
        """Nothing is left to be done on either side."""
        self.sync()
        self.push()
        assert one(self.services.database, OPEN) == 0
        asked = self.sandbox.requests_of(self.organization)
        self.push()
        assert self.sandbox.requests_of(self.organization) == asked


@pytest.fixture
def both(services: Services, connected: Connected, sandbox: Sandbox, vendor_organization: str) -> Both:
    acme = connected("acme")
    sync(services, acme, TRANSACTION)
    execute(
        services.database, "update softpro.integrations set conflict_strategy = 'MANUAL_REVIEW', push_deletes = true"
    )
    [first] = rows(
        services.database, "select id, softpro_order_id from roi.transactions order by softpro_order_id limit 1"
    )
    made = Both(services, acme, sandbox, vendor_organization, first["id"], first["softpro_order_id"])
    made.change(notes="as it was", purchasePrice=400_000, loanAmount=200_000)
    made.sync()
    return made


@pytest.fixture
def in_review(both: Both) -> Both:
    """Both changed `notes`; ROI the price, too, and SoftPro the loan."""
    both.edit(notes="ours", purchase_price=500_000)
    both.change(notes="theirs", loanAmount=300_000)
    both.sync()
    return both


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
            deletes.approve(connection, too_many.integration, TRANSACTION, 1, "ada")
        assert deletes.approve(connection, too_many.integration, TRANSACTION, many, "ada") == many
        with pytest.raises(OutOfDate, match="0 deletes"):
            deletes.approve(connection, too_many.integration, TRANSACTION, many, "ada")
    too_many.push()
    assert too_many.sandbox.records(too_many.organization) == {}
    too_many.rests()


def test_deletes_that_are_withdrawn_bring_their_rows_back(too_many: Both) -> None:
    many = waiting(too_many)
    with too_many.services.database.connect() as connection:
        assert deletes.withdraw(connection, too_many.integration, TRANSACTION, many, "ada") == many
    too_many.rests()
    alive = "select count(*) from roi.transactions where deleted_at is null"
    assert one(too_many.services.database, alive) == many == len(too_many.sandbox.records(too_many.organization))
    assert too_many.row is not None  # by the id that it had
