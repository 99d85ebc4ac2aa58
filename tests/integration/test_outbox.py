"""Record users' edits of `roi` in the outbox, and none of the loader's writes."""

from __future__ import annotations

import time
from threading import Thread

import psycopg
import pytest

from softpro.entities import EntityType, Mode, SyncType
from softpro.runs import pipeline

from ..support.databases import execute, load, one, rows
from ..support.product import quality_settings
from ..support.writeback import BothSides, edit_in_roi, run_push

TRANSACTION, CONTACT = EntityType.TRANSACTION, EntityType.CONTACT
WAITS = "select exists (select from pg_locks where not granted)"
OUTCOMES = "select field, outcome from softpro.outbox order by id"


def test_the_author_of_an_edit_and_the_previous_version_are_kept(sides: BothSides) -> None:
    with sides.database.connect() as connection, connection.transaction():
        connection.execute("select set_config('softpro.user', 'ann', true)")
        connection.execute(
            "update roi.contacts set notes = 'one', fax = '1' where softpro_contact_id = %s", [sides.key]
        )
    sides.edit_in_roi(notes="two")
    edits = "select field, new_value, changed_by from softpro.outbox order by id"
    user = one(sides.database, "select session_user::text")
    assert [tuple(row.values()) for row in rows(sides.database, edits)] == [
        ("fax", "1", "ann"),
        ("notes", "one", "ann"),
        ("notes", "two", user),
    ]
    versions = "select notes from roi.contacts_versions where softpro_contact_id = %s order by valid_from"
    assert [row["notes"] for row in rows(sides.database, versions, sides.key)][-2:] == ["one", "two"]


def test_rows_written_by_the_loader_are_no_edits(sides: BothSides) -> None:
    sides.edit_at_softpro(notes="theirs")
    sides.sync()
    sides.sync(mode=Mode.FULL)
    load(sides.database, "update roi.contacts set notes = 'by the loader'")
    assert rows(sides.database, OUTCOMES) == []


@pytest.mark.parametrize(
    "statement",
    [
        "update roi.contacts set softpro_contact_id = 'another'",
        "update roi.contacts set organization_id = 'another'",
        "insert into roi.contacts (organization_id, softpro_contact_id) values ('acme', 'con-mine')",
    ],
)
def test_the_softpro_id_of_a_row_can_not_be_changed(sides: BothSides, statement: str) -> None:
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        execute(sides.database, statement)


def test_an_edit_made_while_its_row_is_loaded_is_not_lost(sides: BothSides) -> None:
    """The load has not read the edit, and overwrites the edited row."""
    sides.edit_at_softpro(company="Theirs")
    run = pipeline.begin(
        sides.database, sides.integration, CONTACT, mode=Mode.INCREMENTAL, sync_type=SyncType.MANUAL, run_id="race"
    )
    pipeline.extract(sides.services, run)
    pipeline.transform(sides.database, run)
    pipeline.check(sides.database, run, quality_settings())
    with sides.database.connect() as person:
        with person.transaction():
            person.execute("update roi.contacts set notes = 'ours' where softpro_contact_id = %s", [sides.key])
            loading = Thread(target=pipeline.load, args=[sides.database, run])
            loading.start()
            deadline = time.monotonic() + 60
            while not one(sides.database, WAITS):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        loading.join()
    pipeline.finish(sides.database, run)
    assert sides.roi_values("notes", "company") == ("ours", "Theirs")
    run_push(sides.services, sides.integration)
    assert sides.softpro_records()[sides.key]["notes"] == "ours"


@pytest.mark.parametrize(
    "change",
    [
        "estimated_closing_at = 'infinity'",
        "estimated_closing_at = '12000-01-01'",
        "estimated_closing_at = '0044-03-15 BC'",
        "custom = '[1, 2]'",
        "custom = '\"x\"'",
        "custom = '{\"a\": 1e5000}'",
        "custom = jsonb_build_object('a', (repeat('[', 1500) || repeat(']', 1500))::jsonb)",
    ],
)
def test_a_value_that_can_not_be_sent_is_refused_on_write(sides: BothSides, change: str) -> None:
    sides.sync(TRANSACTION)
    with pytest.raises(psycopg.DataError):
        execute(sides.database, f"update roi.transactions set {change}")


@pytest.mark.parametrize(
    "change",
    [
        "purchase_price = 'NaN'",
        "custom = 'null'",
        "custom = '{\"a\": 123456789012345678901234567890}'",
        'custom = \'{"a.b\\"c\'\'d[0] %s {x}": 1, "": 2, "n": null}\'',
        "notes = repeat('x', 10000000)",
    ],
)
def test_an_odd_row_keeps_no_other_record_waiting(sides: BothSides, change: str) -> None:
    sides.sync(TRANSACTION)
    keys = "select softpro_order_id as key from roi.transactions order by 1 limit 2"
    odd, good = (row["key"] for row in rows(sides.database, keys))
    with sides.database.connect() as connection:
        connection.execute(f"update roi.transactions set {change} where softpro_order_id = '{odd}'")
    edit_in_roi(sides.database, TRANSACTION, good, notes="ours")
    run_push(sides.services, sides.integration, TRANSACTION)
    assert sides.softpro_records(TRANSACTION)[good]["notes"] == "ours"
