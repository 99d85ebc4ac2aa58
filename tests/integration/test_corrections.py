"""Correct quarantined records: when a correction loads, why it is refused, and how its case closes."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from softpro.db.integrations import Integration
from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import OutOfDate, UsageError
from softpro.quality import quarantine_cases
from softpro.runs import pipeline
from softpro.services import Services
from softpro.sync import replay as replaying

from ..support.database_state import inconsistent_logs, leftovers
from ..support.databases import dump, one
from ..support.product import begin, paused_process, quality_settings, sync
from ..support.quarantine_cases import (
    JULY,
    JUNE,
    LATEST,
    PRICE,
    UNREADABLE,
    as_bytes,
    correct,
    find_case,
    order,
    outcome,
    remap,
    replay,
)


def test_a_case_that_softpro_corrects_is_closed_as_loaded(acme: Integration, services: Services, put: Any) -> None:
    put(order("o", -1))
    sync(services, acme)
    put(order("o", 1, LATEST))
    sync(services, acme)
    case = find_case(services)
    assert (case.resolution, case.resolved_by) == ("LOADED", None)


def test_an_edited_record_is_loaded_and_closes_its_case_as_edited(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    before = find_case(services)

    edited = correct(services, before, order("o", 1))

    assert (edited.resolution, edited.edited_by) == (None, "ann")
    log = replay(services, acme, before.id)
    assert outcome(log) == ("COMPLETED", 1, 0)
    assert (log.mode, log.reason) == ("replay", "maps 1 quarantined records again")
    case = find_case(services)
    assert (case.resolution, case.resolved_by, case.payload_hash) == ("EDITED", "ann", before.payload_hash)
    assert [(each["decision"], each["by"]) for each in case.decisions] == [("EDIT", "ann")]
    assert one(services.database, PRICE, "o") == 1
    assert leftovers(services.database) == {}


@pytest.mark.parametrize("at", [JUNE, LATEST])
@pytest.mark.parametrize("mode", list(Mode)[:3])
def test_the_version_that_was_corrected_does_not_come_back_in_any_run(
    acme: Integration, services: Services, put: Any, mode: Mode, at: str
) -> None:
    put(order("o", -1, at))
    sync(services, acme)
    correct(services, find_case(services), order("o", 1, at))
    replay(services, acme)

    for _ in range(2):
        assert sync(services, acme, mode=mode).records_failed == 0
    assert remap(services, acme).records_failed == 0

    assert find_case(services).resolution == "EDITED"
    assert one(services.database, PRICE, "o") == 1


def test_a_run_without_changes_rewrites_no_row_when_another_is_corrected(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1, LATEST))
    sync(services, acme)
    correct(services, find_case(services), order("o", 1, LATEST))
    sync(services, acme)
    before = dump(services.database, versions=True)
    sync(services, acme)
    after = dump(services.database, versions=True)
    kept = [name for name in before if name.startswith(("raw.", "roi.", "softpro.quarantine"))]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_softpros_next_version_replaces_the_edit(acme: Integration, services: Services, put: Any) -> None:
    put(order("o", -1))
    sync(services, acme)
    correct(services, find_case(services), order("o", 1))
    replay(services, acme)

    put(order("o", 2, LATEST))
    sync(services, acme)
    assert one(services.database, PRICE, "o") == 2
    assert find_case(services).resolution == "EDITED"

    put(order("o", -3, "2030-01-02T00:00:00.000Z"))
    assert sync(services, acme).records_failed == 1
    case = find_case(services)
    assert (case.resolution, case.resolved_by, case.edited_by) == (None, None, None)
    assert [each["decision"] for each in case.decisions] == ["EDIT"]


def test_an_edit_that_fails_leaves_the_case_open_with_its_reasons_and_softpros_payload(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    before = find_case(services)
    correct(services, before, order("o", "a lot"))

    assert outcome(replay(services, acme, before.id)) == ("PARTIAL_SUCCESS", 1, 1)

    case = find_case(services)
    assert (case.resolution, case.payload_hash, case.edited_by) == (None, before.payload_hash, "ann")
    assert [(reason["column"], reason["rule"]) for reason in case.reasons] == [("purchase_price", "type")]
    with services.database.connect() as connection:
        both = quarantine_cases.payloads(connection, case)
    assert json.loads(both.payload) == order("o", -1)
    assert both.edited_payload == as_bytes(order("o", "a lot"))
    correct(services, case, order("o", 3))
    assert outcome(sync(services, acme)) == ("COMPLETED", 1, 0)
    assert find_case(services).resolution == "EDITED"


@pytest.mark.parametrize("payload", UNREADABLE.values(), ids=UNREADABLE)
def test_a_record_that_could_not_land_is_corrected_and_stays_so_when_it_comes_again(
    acme: Integration, services: Services, put: Any, payload: bytes
) -> None:
    put(payload)
    sync(services, acme)
    assert find_case(services).entity_id == "o"
    assert outcome(replay(services, acme)) == ("COMPLETED", 0, 0)
    with services.database.connect() as connection:
        assert replaying.count_unreplayable(connection, acme.stream(EntityType.TRANSACTION)) == 1

    correct(services, find_case(services), order("o", 5))

    assert outcome(replay(services, acme)) == ("COMPLETED", 1, 0)
    assert find_case(services).resolution == "EDITED"
    assert one(services.database, PRICE, "o") == 5
    # A full sync lists it again. It fails as before and is counted, and the case stays closed.
    for mode, failed in ((Mode.FULL, 1), (Mode.INCREMENTAL, 0)):
        assert sync(services, acme, mode=mode).records_failed == failed
    assert find_case(services).resolution == "EDITED"
    assert one(services.database, PRICE, "o") == 5
    assert inconsistent_logs(services.database) == []


def test_an_edit_gives_a_record_its_id_and_the_case_without_one_follows_it(
    acme: Integration, services: Services, put: Any
) -> None:
    nameless = order("o", 1)
    del nameless["orderId"]
    put(nameless)
    sync(services, acme)
    before = find_case(services)
    assert before.entity_id is None

    correct(services, before, order("found", "a lot"))
    assert replay(services, acme, before.id).records_failed == 1

    case = find_case(services)  # still the only one
    assert (case.record_key, case.entity_id, case.resolution) == (before.record_key, "found", None)
    assert case.reasons[0]["column"] == "purchase_price"
    with pytest.raises(UsageError, match="this case is about found"):
        correct(services, case, order("another", 1))
    correct(services, case, order("found", 1))
    assert replay(services, acme, before.id).records_failed == 0
    assert find_case(services).resolution == "EDITED"
    assert one(services.database, PRICE, "found") == 1


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"{", "can't be accepted: the record is not JSON"),
        (b"[]", "can't be accepted: the record is not a JSON object"),
        (as_bytes({"updatedAt": JUNE}), "orderId is missing"),
        (as_bytes({"orderId": "o", "updatedAt": "soon"}), "updatedAt is missing or is not a timestamp"),
        (as_bytes(order("p", 1)), "for another record: this case is about o"),
        (as_bytes(order("o", 1, JULY)), "must keep SoftPro's updatedAt, 2025-06-01T00:00:00.000Z"),
        (as_bytes(order("o", 1, notes="a\x00b")), "can't be (stored|accepted): "),
        (as_bytes(order("o", 1, notes="half \ud83c")), "can't be (stored|accepted): "),
        (as_bytes(order("o", -1)), "equals what SoftPro sent"),
    ],
)
def test_an_edit_that_is_no_correction_is_refused_and_changes_nothing(
    acme: Integration, services: Services, put: Any, record: bytes, message: str
) -> None:
    put(order("o", -1))
    sync(services, acme)
    before = dump(services.database, versions=True)
    with pytest.raises(UsageError, match=message):
        correct(services, find_case(services), record)
    assert dump(services.database, versions=True) == before


def test_an_edit_of_a_record_without_a_date_is_not_dated_in_the_future(
    acme: Integration, services: Services, put: Any
) -> None:
    put(UNREADABLE["undated"])
    sync(services, acme)
    with pytest.raises(UsageError, match="in the future"):
        correct(services, find_case(services), order("o", 1, "2999-01-01T00:00:00.000Z"))


def test_an_edit_is_refused_once_softpro_has_sent_a_newer_version(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    put(order("o", 2, LATEST))
    run = begin(services, acme)
    pipeline.extract(services, run)

    with pytest.raises(OutOfDate, match="A newer version of o exists"):
        correct(services, find_case(services), order("o", 1))

    pipeline.apply(services.database, run, quality_settings())
    pipeline.finish(services.database, run)
    assert find_case(services).resolution == "LOADED"
    with pytest.raises(OutOfDate, match="is closed: LOADED"):
        correct(services, find_case(services), order("o", 1))


def test_an_edit_that_lands_while_a_run_is_about_to_settle_the_old_version_wins(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    run = pipeline.begin(
        services.database,
        acme,
        EntityType.TRANSACTION,
        mode=Mode.REPLAY,
        sync_type=SyncType.MANUAL,
        run_id="racing",
    )
    pipeline.mark_cases(services.database, run)
    pipeline.transform(services.database, run)
    pipeline.check(services.database, run, quality_settings())

    correct(services, find_case(services), order("o", 1))
    loaded = pipeline.load(services.database, run)
    pipeline.finish(services.database, run)

    assert (loaded.loaded, loaded.quarantined) == (0, 0)
    assert outcome(sync(services, acme)) == ("COMPLETED", 1, 0)
    assert find_case(services).resolution == "EDITED"


def test_one_of_two_concurrent_corrections_wins_as_a_whole(
    acme: Integration, services: Services, put: Any, settings: dict[str, str]
) -> None:
    put(order("o", -1))
    sync(services, acme)
    case = find_case(services)
    code = (
        "import os, sys, json; from uuid import UUID; from softpro.sync.corrections import correct; "
        "from softpro.db.database import database_at; "
        "database = database_at(os.environ['SOFTPRO_DATABASE_URL'])\n"
        "with database.connect() as connection: "
        "correct(connection, UUID('{id}'), json.dumps({record}).encode(), '{by}')"
    )
    both = [
        paused_process(settings, code.format(id=case.id, record=order("o", price), by=f"person {price}"))
        for price in (1, 2)
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=60) for process in both]
    failed = [error for process, (_, error) in zip(both, ended, strict=True) if process.returncode]
    assert all("was changed just now" in error for error in failed)
    assert len(failed) < 2

    assert outcome(sync(services, acme)) == ("COMPLETED", 1, 0)

    case = find_case(services)
    with services.database.connect() as connection:
        edited = json.loads(quarantine_cases.payloads(connection, case).edited_payload or b"")
    assert case.resolved_by == f"person {edited['purchasePrice']}"
    assert one(services.database, PRICE, "o") == edited["purchasePrice"]


def test_a_process_that_dies_between_the_edit_and_its_replay_leaves_it_to_the_next_run(
    acme: Integration, services: Services, put: Any, settings: dict[str, str]
) -> None:
    put(order("o", -1))
    sync(services, acme)
    code = (
        "import os, signal; from uuid import UUID; from softpro.sync.corrections import correct; "
        "from softpro.db.database import database_at; "
        "database = database_at(os.environ['SOFTPRO_DATABASE_URL'])\n"
        "with database.connect() as connection: correct(connection, UUID('{id}'), {payload!r}, 'ann'); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    process: subprocess.Popen[str] = paused_process(
        settings, code.format(id=find_case(services).id, payload=as_bytes(order("o", 1)))
    )
    process.communicate("go\n", timeout=60)
    assert process.returncode == -9
    assert find_case(services).resolution is None

    assert outcome(sync(services, acme)) == ("COMPLETED", 1, 0)

    assert find_case(services).resolution == "EDITED"
