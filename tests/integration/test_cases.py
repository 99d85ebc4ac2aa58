"""What people do with the quarantine: look, correct, replay, discard; and how each case closes."""

from __future__ import annotations

import json
import subprocess
from base64 import b64decode
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from softpro import pipeline
from softpro.entities import EntityType, Mode, SyncType
from softpro.errors import LeaseHeld, NotFoundHere, OutOfDate, UsageError
from softpro.mapping import sets
from softpro.quality import cases
from softpro.quality.cases import Case, Payloads, Resolution, Wanted
from softpro.services import Services
from softpro.store.integrations import Integration
from softpro.store.logs import SyncLog
from softpro.sync import replay as replaying
from softpro.sync.edit import edit

from ..support.bad import strict_mappings
from ..support.databases import dump, one, rows
from ..support.kinds import Connected
from ..support.product import begin, racer, sync
from ..support.reconciles import confirm, differences, reconcile, sweep
from ..support.state import left_over, unsound_logs
from ..support.vendor import Sandbox

JUNE, JULY = "2025-06-01T00:00:00.000Z", "2025-07-01T00:00:00.000Z"
LATEST = "2030-01-01T00:00:00.000Z"  # of all, so that each run's first page holds it again
OPEN = "select count(*) from softpro.quarantine where resolved_at is null"
PRICE = "select purchase_price from roi.transactions where softpro_order_id = %s"


def order(order_id: str, price: object, at: str = JUNE, **more: object) -> dict[str, Any]:
    return {
        "orderId": order_id,
        "orderType": "SALE",
        "purchasePrice": price,
        "createdAt": JUNE,
        "updatedAt": at,
        **more,
    }


def as_bytes(record: object) -> bytes:
    return json.dumps(record).encode()


@pytest.fixture
def acme(connected: Connected) -> Integration:
    return connected("acme")


@pytest.fixture
def put(sandbox: Sandbox, vendor_organization: str) -> Callable[[object], str]:
    """Puts a record into the vendor's list."""

    def into(record: object) -> str:
        return sandbox.put(vendor_organization, record if isinstance(record, bytes) else as_bytes(record))

    return into


def the_case(services: Services, record_key: str | None = None) -> Case:
    """The case of the record, or the only one there is."""
    found = rows(
        services.database,
        "select id from softpro.quarantine where record_key = coalesce(%s, record_key)",
        record_key,
    )
    [row] = found
    with services.database.connect() as connection:
        return cases.get(connection, row["id"])


def correct(services: Services, case: Case, record: object, by: str = "ann") -> Case:
    payload = record if isinstance(record, bytes) else as_bytes(record)
    with services.database.connect() as connection:
        return edit(connection, case.id, payload, by)


def discard(services: Services, case: Case, reason: str = "a test of the vendor's") -> Case:
    with services.database.connect() as connection:
        return cases.discard(connection, case.id, reason, "ben")


def replay(services: Services, integration: Integration, *chosen: UUID) -> SyncLog:
    return pipeline.replay(
        services.database,
        integration,
        EntityType.TRANSACTION,
        cases=chosen or None,
        sync_type=SyncType.MANUAL,
        run_id=f"test__{uuid4()}",
    )


def remap(services: Services, integration: Integration) -> SyncLog:
    return pipeline.remap(
        services.database,
        integration,
        EntityType.TRANSACTION,
        sync_type=SyncType.MANUAL,
        run_id=f"test__{uuid4()}",
    )


def give_strict_mappings(services: Services, integration: Integration) -> None:
    with services.database.connect() as connection:
        sets.replace(connection, integration.id, integration.organization_id, strict_mappings(), "a test")


def outcome(log: SyncLog) -> tuple[str, int, int]:
    return log.status, log.records_processed, log.records_failed


def test_a_case_that_softpro_corrects_is_closed_as_loaded(acme: Integration, services: Services, put: Any) -> None:
    put(order("o", -1))
    sync(services, acme)
    put(order("o", 1, LATEST))
    sync(services, acme)
    case = the_case(services)
    assert (case.resolution, case.resolved_by) == ("LOADED", None)


def test_an_edited_record_is_loaded_and_closes_its_case_as_edited(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    before = the_case(services)

    edited = correct(services, before, order("o", 1))

    assert (edited.resolution, edited.edited_by) == (None, "ann")
    log = replay(services, acme, before.id)
    assert outcome(log) == ("COMPLETED", 1, 0)
    assert (log.mode, log.reason) == ("replay", "maps again 1 records that are in quarantine")
    case = the_case(services)
    assert (case.resolution, case.resolved_by, case.payload_hash) == ("EDITED", "ann", before.payload_hash)
    assert [(each["decision"], each["by"]) for each in case.decisions] == [("EDIT", "ann")]
    assert one(services.database, PRICE, "o") == 1
    assert left_over(services.database) == {}


@pytest.mark.parametrize("at", [JUNE, LATEST])
@pytest.mark.parametrize("mode", list(Mode)[:3])
def test_the_version_that_was_corrected_does_not_come_back_in_any_run(
    acme: Integration, services: Services, put: Any, mode: Mode, at: str
) -> None:
    put(order("o", -1, at))
    sync(services, acme)
    correct(services, the_case(services), order("o", 1, at))
    replay(services, acme)

    for _ in range(2):
        assert sync(services, acme, mode=mode).records_failed == 0
    assert remap(services, acme).records_failed == 0

    assert the_case(services).resolution == "EDITED"
    assert one(services.database, PRICE, "o") == 1


def test_a_run_that_changes_nothing_rewrites_no_row_beside_a_corrected_one(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1, LATEST))
    sync(services, acme)
    correct(services, the_case(services), order("o", 1, LATEST))
    sync(services, acme)
    before = dump(services.database, versions=True)
    sync(services, acme)
    after = dump(services.database, versions=True)
    kept = [name for name in before if name.startswith(("raw.", "roi.", "softpro.quarantine"))]
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_softpros_next_version_replaces_the_edit(acme: Integration, services: Services, put: Any) -> None:
    put(order("o", -1))
    sync(services, acme)
    correct(services, the_case(services), order("o", 1))
    replay(services, acme)

    put(order("o", 2, LATEST))
    sync(services, acme)
    assert one(services.database, PRICE, "o") == 2
    assert the_case(services).resolution == "EDITED"

    put(order("o", -3, "2030-01-02T00:00:00.000Z"))
    assert sync(services, acme).records_failed == 1
    case = the_case(services)
    assert (case.resolution, case.resolved_by, case.edited_by) == (None, None, None)
    assert [each["decision"] for each in case.decisions] == ["EDIT"]


def test_an_edit_that_fails_leaves_the_case_open_with_its_reasons_and_softpros_payload(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    before = the_case(services)
    correct(services, before, order("o", "a lot"))

    assert outcome(replay(services, acme, before.id)) == ("PARTIAL_SUCCESS", 1, 1)

    case = the_case(services)
    assert (case.resolution, case.payload_hash, case.edited_by) == (None, before.payload_hash, "ann")
    assert [(reason["column"], reason["rule"]) for reason in case.reasons] == [("purchase_price", "type")]
    with services.database.connect() as connection:
        both = cases.payloads(connection, case)
    assert json.loads(both.payload) == order("o", -1)
    assert both.edited_payload == as_bytes(order("o", "a lot"))
    correct(services, case, order("o", 3))
    assert outcome(sync(services, acme)) == ("COMPLETED", 1, 0)
    assert the_case(services).resolution == "EDITED"


UNREADABLE = {
    "undated": as_bytes({**order("o", 1), "updatedAt": "yesterday"}),
    "NUL": as_bytes(order("o", 1, notes="a\x00b")),
    "half a surrogate pair": as_bytes(order("o", 1, notes="half \ud83c")),
}


@pytest.mark.parametrize("payload", UNREADABLE.values(), ids=UNREADABLE)
def test_a_record_that_could_not_land_is_corrected_and_stays_so_when_it_comes_again(
    acme: Integration, services: Services, put: Any, payload: bytes
) -> None:
    put(payload)
    sync(services, acme)
    assert the_case(services).entity_id == "o"
    assert outcome(replay(services, acme)) == ("COMPLETED", 0, 0)
    with services.database.connect() as connection:
        assert replaying.left(connection, acme.id, EntityType.TRANSACTION) == 1

    correct(services, the_case(services), order("o", 5))

    assert outcome(replay(services, acme)) == ("COMPLETED", 1, 0)
    assert the_case(services).resolution == "EDITED"
    assert one(services.database, PRICE, "o") == 5
    # A full sync lists it again: it fails as it did, which is counted, and the case stays closed.
    for mode, failed in ((Mode.FULL, 1), (Mode.INCREMENTAL, 0)):
        assert sync(services, acme, mode=mode).records_failed == failed
    assert the_case(services).resolution == "EDITED"
    assert one(services.database, PRICE, "o") == 5
    assert unsound_logs(services.database) == []


def test_an_edit_gives_a_record_its_id_and_the_case_without_one_follows_it(
    acme: Integration, services: Services, put: Any
) -> None:
    nameless = order("o", 1)
    del nameless["orderId"]
    put(nameless)
    sync(services, acme)
    before = the_case(services)
    assert before.entity_id is None

    correct(services, before, order("found", "a lot"))
    assert replay(services, acme, before.id).records_failed == 1

    case = the_case(services)  # the only one still
    assert (case.record_key, case.entity_id, case.resolution) == (before.record_key, "found", None)
    assert case.reasons[0]["column"] == "purchase_price"
    with pytest.raises(UsageError, match="this case is that of found"):
        correct(services, case, order("another", 1))
    correct(services, case, order("found", 1))
    assert replay(services, acme, before.id).records_failed == 0
    assert the_case(services).resolution == "EDITED"
    assert one(services.database, PRICE, "found") == 1


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"{", "can't be taken: the record is not JSON"),
        (b"[]", "can't be taken: the record is not a JSON object"),
        (as_bytes({"updatedAt": JUNE}), "orderId is missing"),
        (as_bytes({"orderId": "o", "updatedAt": "soon"}), "updatedAt is missing or is not a timestamp"),
        (as_bytes(order("p", 1)), "of another record: this case is that of o"),
        (as_bytes(order("o", 1, JULY)), "keeps SoftPro's updatedAt, which is 2025-06-01T00:00:00.000Z"),
        (as_bytes(order("o", 1, notes="a\x00b")), "can't be (stored|taken): "),
        (as_bytes(order("o", 1, notes="half \ud83c")), "can't be (stored|taken): "),
        (as_bytes(order("o", -1)), "is what SoftPro sent"),
    ],
)
def test_an_edit_that_is_no_correction_is_refused_and_changes_nothing(
    acme: Integration, services: Services, put: Any, record: bytes, message: str
) -> None:
    put(order("o", -1))
    sync(services, acme)
    before = dump(services.database, versions=True)
    with pytest.raises(UsageError, match=message):
        correct(services, the_case(services), record)
    assert dump(services.database, versions=True) == before


def test_an_edit_of_a_record_without_a_date_is_not_dated_in_the_future(
    acme: Integration, services: Services, put: Any
) -> None:
    put(UNREADABLE["undated"])
    sync(services, acme)
    with pytest.raises(UsageError, match="in the future"):
        correct(services, the_case(services), order("o", 1, "2999-01-01T00:00:00.000Z"))


def test_an_edit_is_refused_once_softpro_has_sent_a_newer_version(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    put(order("o", 2, LATEST))
    run = begin(services, acme)
    pipeline.extract(services, run)

    with pytest.raises(OutOfDate, match="A newer version of o is there"):
        correct(services, the_case(services), order("o", 1))

    pipeline.apply(services.database, run)
    pipeline.finish(services.database, run)
    assert the_case(services).resolution == "LOADED"
    with pytest.raises(OutOfDate, match="is closed: LOADED"):
        correct(services, the_case(services), order("o", 1))


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
    pipeline.check(services.database, run)

    correct(services, the_case(services), order("o", 1))
    loaded = pipeline.load(services.database, run)
    pipeline.finish(services.database, run)

    assert (loaded.loaded, loaded.quarantined) == (0, 0)
    assert outcome(sync(services, acme)) == ("COMPLETED", 1, 0)
    assert the_case(services).resolution == "EDITED"


def test_of_two_edits_at_once_one_wins_as_a_whole(
    acme: Integration, services: Services, put: Any, settings: dict[str, str]
) -> None:
    put(order("o", -1))
    sync(services, acme)
    case = the_case(services)
    code = (
        "import os, sys, json; from uuid import UUID; from softpro.sync.edit import edit; "
        "from softpro.store.database import database_at; "
        "database = database_at(os.environ['SOFTPRO_DATABASE_URL'])\n"
        "with database.connect() as connection: "
        "edit(connection, UUID('{id}'), json.dumps({record}).encode(), '{by}')"
    )
    both = [
        racer(settings, code.format(id=case.id, record=order("o", price), by=f"person {price}")) for price in (1, 2)
    ]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    ended = [process.communicate(timeout=60) for process in both]
    failed = [error for process, (_, error) in zip(both, ended, strict=True) if process.returncode]
    assert all("has changed at this very moment" in error for error in failed)
    assert len(failed) < 2

    assert outcome(sync(services, acme)) == ("COMPLETED", 1, 0)

    case = the_case(services)
    with services.database.connect() as connection:
        edited = json.loads(cases.payloads(connection, case).edited_payload or b"")
    assert case.resolved_by == f"person {edited['purchasePrice']}"
    assert one(services.database, PRICE, "o") == edited["purchasePrice"]


def test_a_process_that_dies_between_the_edit_and_its_replay_leaves_it_to_the_next_run(
    acme: Integration, services: Services, put: Any, settings: dict[str, str]
) -> None:
    put(order("o", -1))
    sync(services, acme)
    code = (
        "import os, signal; from uuid import UUID; from softpro.sync.edit import edit; "
        "from softpro.store.database import database_at; "
        "database = database_at(os.environ['SOFTPRO_DATABASE_URL'])\n"
        "with database.connect() as connection: edit(connection, UUID('{id}'), {payload!r}, 'ann'); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    process: subprocess.Popen[str] = racer(
        settings, code.format(id=the_case(services).id, payload=as_bytes(order("o", 1)))
    )
    process.communicate("go\n", timeout=60)
    assert process.returncode == -9
    assert the_case(services).resolution is None

    assert outcome(sync(services, acme)) == ("COMPLETED", 1, 0)

    assert the_case(services).resolution == "EDITED"


def test_a_discarded_record_stays_out_in_every_kind_of_run_and_is_counted_as_failed(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("landed", -1))
    put(UNREADABLE["NUL"])
    sync(services, acme)
    for key in ("landed", "o"):
        case = discard(services, the_case(services, key))
        assert (case.resolution, case.resolved_by) == ("DISCARDED", "ben")
        assert case.resolution_reason == "a test of the vendor's"
    assert one(services.database, OPEN) == 0

    full = sync(services, acme, mode=Mode.FULL)
    assert (full.records_processed, full.records_failed) == (47, 2)
    assert sync(services, acme, mode=Mode.DELTA).records_failed == 0
    assert remap(services, acme).records_failed == 1
    audit = reconcile(services, acme)
    assert (audit.status, audit.not_loaded, audit.differing) == ("COMPLETED", 0, 0)
    assert outcome(replay(services, acme)) == ("COMPLETED", 0, 0)

    assert one(services.database, OPEN) == 0
    assert unsound_logs(services.database) == []
    put(order("landed", -2, LATEST))
    put(as_bytes(order("o", 1, LATEST, notes="another\x00")))
    assert sync(services, acme).records_failed == 2
    for key in ("landed", "o"):
        case = the_case(services, key)
        assert (case.resolution, case.resolved_by, case.resolution_reason) == (None, None, None)
        assert [each["reason"] for each in case.decisions] == ["a test of the vendor's"]


@pytest.mark.parametrize("how", ["remap", "full sync"])
def test_a_discarded_record_is_not_loaded_where_nothing_is_wrong_with_it_any_more(
    acme: Integration, services: Services, put: Any, how: str
) -> None:
    give_strict_mappings(services, acme)  # demands the order type
    for name in ("o", "p"):
        put({key: value for key, value in order(name, 1).items() if key != "orderType"})
    assert sync(services, acme).records_failed == 2
    discard(services, the_case(services, "o"))
    before = the_case(services, "o")
    with services.database.connect() as connection:
        sets.restore(connection, acme.id, "acme", EntityType.TRANSACTION, 1, "a test")

    log = remap(services, acme) if how == "remap" else sync(services, acme, mode=Mode.FULL)

    assert outcome(log) == ("PARTIAL_SUCCESS", 47, 1)
    assert the_case(services, "o") == before
    assert the_case(services, "p").resolution == "LOADED"
    assert rows(services.database, PRICE, "o") == []
    assert left_over(services.database) == {}
    assert unsound_logs(services.database) == []
    put(order("o", 2, LATEST))
    assert outcome(sync(services, acme)) == ("COMPLETED", 1, 0)
    assert one(services.database, PRICE, "o") == 2
    assert remap(services, acme).records_failed == 0


def test_a_discarded_record_that_fails_for_another_reason_keeps_its_own(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1, orderType=None))
    sync(services, acme)
    discard(services, the_case(services))
    before = the_case(services)
    give_strict_mappings(services, acme)
    assert remap(services, acme).records_failed == 1
    assert the_case(services) == before


@pytest.mark.parametrize("with_id", [True, False])
def test_a_correction_that_waits_is_not_loaded_once_its_case_is_discarded(
    acme: Integration, services: Services, put: Any, with_id: bool
) -> None:
    put(order("o", -1) if with_id else {key: value for key, value in order("o", 1).items() if key != "orderId"})
    sync(services, acme)
    correct(services, the_case(services), order("o", 2))
    discard(services, the_case(services))
    assert left_over(services.database) == {}
    assert sync(services, acme).records_processed == 0
    assert remap(services, acme).records_failed == 1
    assert rows(services.database, PRICE, "o") == []
    assert the_case(services).resolution == "DISCARDED"


def test_a_correction_that_a_run_has_in_its_hands_is_not_loaded_once_its_case_is_discarded(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    correct(services, the_case(services), order("o", 2))
    run = begin(services, acme)
    pipeline.transform(services.database, run)
    pipeline.check(services.database, run)
    discard(services, the_case(services))
    loaded = pipeline.load(services.database, run)
    pipeline.finish(services.database, run)
    assert (loaded.loaded, loaded.quarantined) == (0, 1)
    assert rows(services.database, PRICE, "o") == []


def test_a_discard_needs_a_reason_and_an_open_case_and_an_edit_takes_it_back(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    case = the_case(services)
    with pytest.raises(UsageError, match="for a reason"):
        discard(services, case, "  ")
    discard(services, case)
    with pytest.raises(OutOfDate, match="is closed: DISCARDED by ben at "):
        discard(services, case)
    assert correct(services, case, order("o", 1)).resolution is None
    replay(services, acme)
    assert [each["decision"] for each in the_case(services).decisions] == ["DISCARD", "EDIT"]
    with pytest.raises(OutOfDate, match="is closed: EDITED by ann"):
        correct(services, case, order("o", 2))
    with pytest.raises(NotFoundHere):
        discard(services, Case(**{**case.__dict__, "id": uuid4()}))


def test_an_edited_record_that_fails_by_a_later_mapping_opens_its_case_anew(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    correct(services, the_case(services), {**order("o", 1), "orderType": None})
    replay(services, acme)
    assert the_case(services).resolution == "EDITED"
    give_strict_mappings(services, acme)  # demands the order type
    remap(services, acme)
    case = the_case(services)
    assert (case.resolution, case.edited_by, case.reasons[0]["rule"]) == (None, "ann", "required")


def test_an_older_version_that_is_mapped_again_does_not_close_the_case_of_one_that_could_not_land(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", 1))
    sync(services, acme)
    put(order("o", 2, JULY, notes="a\x00b"))
    assert sync(services, acme, mode=Mode.DELTA).records_failed == 1
    remap(services, acme)
    replay(services, acme)
    assert one(services.database, OPEN) == 1
    put(order("o", 3, LATEST))
    sync(services, acme)
    assert the_case(services).resolution == "LOADED"


def test_a_corrected_record_is_no_difference_to_a_reconcile(acme: Integration, services: Services, put: Any) -> None:
    put(order("o", -1))
    sync(services, acme)
    correct(services, the_case(services), order("o", 1))
    sync(services, acme)
    audit = reconcile(services, acme)
    assert (audit.status, audit.differing, audit.converged) == ("COMPLETED", 0, True)
    assert one(services.database, PRICE, "o") == 1


def test_a_correction_that_gave_a_record_its_id_and_failed_is_in_quarantine_to_each_reconcile(
    acme: Integration, services: Services, put: Any
) -> None:
    nameless = order("o", 1)
    del nameless["orderId"]
    put(nameless)
    sync(services, acme)
    correct(services, the_case(services), order("found", "a lot"))
    assert replay(services, acme).records_failed == 1
    put(order("found", "a lot"))  # SoftPro gives it the id, too, and the same wrong price
    for _ in range(2):
        audit = reconcile(services, acme)
        assert (audit.status, audit.not_loaded, audit.differing) == ("COMPLETED", 0, 1)
        assert differences(services.database) == {"found": ("DIFFERS", "QUARANTINED")}
        assert one(services.database, "select count(*) from raw.pending") == 0


def test_a_correction_that_came_and_failed_while_a_sweep_went_on_is_not_pending_again(
    acme: Integration, services: Services, put: Any
) -> None:
    nameless = order("o", 1)
    del nameless["orderId"]
    put(nameless)
    sync(services, acme)
    audit = sweep(services, acme, seconds=0)
    correct(services, the_case(services), order("found", "a lot"))
    assert sync(services, acme).records_failed == 1
    audit = confirm(services, sweep(services, acme, audit.run_id))
    assert (audit.not_loaded, one(services.database, "select count(*) from raw.pending")) == (0, 0)


def test_a_replay_takes_all_cases_or_those_that_are_named_and_leaves_other_organizations_alone(
    acme: Integration, services: Services, sandbox: Sandbox, connected: Connected, put: Any
) -> None:
    globex_at = sandbox.untouched()
    globex = connected("globex", globex_at)
    for organization in (None, globex_at):
        for number in range(3):
            record = order(f"o{number}", 1)
            del record["orderType"]
            if organization is None:
                put(record)
            else:
                sandbox.put(organization, record)
    for integration in (acme, globex):
        give_strict_mappings(services, integration)
        assert sync(services, integration).records_failed == 3
        with services.database.connect() as connection:
            sets.restore(connection, integration.id, integration.organization_id, EntityType.TRANSACTION, 1, "a test")

    with services.database.connect() as connection:
        listed, total = cases.page(connection, acme.id, Wanted(), 200, 0)
    assert total == 3
    assert outcome(replay(services, acme, listed[0].id)) == ("COMPLETED", 1, 0)
    assert outcome(replay(services, acme)) == ("COMPLETED", 2, 0)

    remaining = rows(services.database, "select organization_id from softpro.quarantine where resolved_at is null")
    assert [row["organization_id"] for row in remaining] == ["globex"] * 3


def test_a_replay_waits_for_the_lease_and_an_edit_does_not(acme: Integration, services: Services, put: Any) -> None:
    put(order("o", -1))
    sync(services, acme)
    run = begin(services, acme)
    correct(services, the_case(services), order("o", 1))
    with pytest.raises(LeaseHeld):
        replay(services, acme)
    pipeline.apply(services.database, run)
    pipeline.finish(services.database, run)
    assert the_case(services).resolution == "EDITED"


def test_cases_are_listed_by_type_column_rule_and_resolution_newest_first(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("negative", -1))
    sync(services, acme)
    put(order("wordy", "a lot", LATEST))
    put(order("nul", 1, LATEST, notes="\x00"))
    sync(services, acme)
    discard(services, the_case(services, "nul"))

    def listed(limit: int = 50, offset: int = 0, **wanted: Any) -> list[str | None]:
        with services.database.connect() as connection:
            found, total = cases.page(connection, acme.id, Wanted(**wanted), limit, offset)
        assert total >= len(found)
        return [case.entity_id for case in found]

    assert listed() == ["wordy", "negative"]
    assert listed(limit=1) == ["wordy"]
    assert listed(limit=1, offset=1) == ["negative"]
    assert listed(resolution=Resolution.ALL) == ["nul", "wordy", "negative"]
    assert listed(resolution=Resolution.DISCARDED) == ["nul"]
    assert listed(resolution=Resolution.LOADED) == []
    assert listed(rule="type") == ["wordy"]
    assert listed(column="purchase_price", rule="expect_column_values_to_be_between") == ["negative"]
    assert listed(column="loan_amount", rule="type") == []
    assert listed(entity_type=EntityType.CONTACT) == []


@pytest.mark.parametrize(
    "payload",
    [
        as_bytes(order("o", -1)),
        UNREADABLE["NUL"],
        UNREADABLE["half a surrogate pair"],
        as_bytes(order("o", 1)).replace(b" 1,", b" 1e5000,"),
        b'{"orderId":\n"o", "updatedAt": 1' + b"0" * 4000 + b"}",
    ],
    ids=["negative", "NUL", "surrogate", "huge", "long and on two lines"],
)
def test_a_case_shows_its_payload_as_it_was_sent(
    acme: Integration, services: Services, put: Any, payload: bytes
) -> None:
    put(payload)
    sync(services, acme)
    case = the_case(services)
    with services.database.connect() as connection:
        both = cases.payloads(connection, case)
    shown = cases.shown(case, both)
    assert b"\n" not in shown
    told = json.loads(shown, parse_int=str, parse_float=str)
    assert told["payloadEncoding"] == "json"
    assert told["payload"] == json.loads(both.payload, parse_int=str, parse_float=str)
    assert both.payload == payload or case.mapping_version == 1
    assert told["reasons"][0]["message"]


@pytest.mark.parametrize("payload", [b'{"notes": "\xff"}', b'{"price": NaN}', b"[" * 100_000, b""])
def test_a_payload_that_is_no_json_is_shown_as_base64(
    acme: Integration, services: Services, put: Any, payload: bytes
) -> None:
    put(order("o", -1))
    sync(services, acme)
    told = json.loads(cases.shown(the_case(services), Payloads(payload, None)))
    assert (told["payloadEncoding"], b64decode(told["payload"])) == ("base64", payload)
