"""Keep discarded records out of every run."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from softpro.db.integrations import Integration
from softpro.entities import EntityType, Mode
from softpro.errors import NotFoundHere, OutOfDate, UsageError
from softpro.mapping import repository
from softpro.quality.quarantine_cases import Case
from softpro.runs import pipeline
from softpro.services import Services

from ..support.database_state import inconsistent_logs, leftovers
from ..support.databases import one, rows
from ..support.product import begin, quality_settings, sync
from ..support.quarantine_cases import (
    LATEST,
    OPEN,
    PRICE,
    UNREADABLE,
    as_bytes,
    correct,
    discard,
    find_case,
    order,
    outcome,
    remap,
    replay,
    set_strict_mappings,
)
from ..support.reconcile_steps import reconcile


def test_a_discarded_record_stays_out_in_every_kind_of_run_and_is_counted_as_failed(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("landed", -1))
    put(UNREADABLE["NUL"])
    sync(services, acme)
    for key in ("landed", "o"):
        case = discard(services, find_case(services, key))
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
    assert inconsistent_logs(services.database) == []
    put(order("landed", -2, LATEST))
    put(as_bytes(order("o", 1, LATEST, notes="another\x00")))
    assert sync(services, acme).records_failed == 2
    for key in ("landed", "o"):
        case = find_case(services, key)
        assert (case.resolution, case.resolved_by, case.resolution_reason) == (None, None, None)
        assert [each["reason"] for each in case.decisions] == ["a test of the vendor's"]


@pytest.mark.parametrize("how", ["remap", "full sync"])
def test_a_discarded_record_is_not_loaded_where_nothing_is_wrong_with_it_any_more(
    acme: Integration, services: Services, put: Any, how: str
) -> None:
    set_strict_mappings(services, acme)  # requires the order type
    for name in ("o", "p"):
        put({key: value for key, value in order(name, 1).items() if key != "orderType"})
    assert sync(services, acme).records_failed == 2
    discard(services, find_case(services, "o"))
    before = find_case(services, "o")
    with services.database.connect() as connection:
        repository.restore(connection, acme.stream(EntityType.TRANSACTION), 1, "a test")

    log = remap(services, acme) if how == "remap" else sync(services, acme, mode=Mode.FULL)

    assert outcome(log) == ("PARTIAL_SUCCESS", 47, 1)
    assert find_case(services, "o") == before
    assert find_case(services, "p").resolution == "LOADED"
    assert rows(services.database, PRICE, "o") == []
    assert leftovers(services.database) == {}
    assert inconsistent_logs(services.database) == []
    put(order("o", 2, LATEST))
    assert outcome(sync(services, acme)) == ("COMPLETED", 1, 0)
    assert one(services.database, PRICE, "o") == 2
    assert remap(services, acme).records_failed == 0


def test_a_discarded_record_that_fails_for_another_reason_keeps_its_own(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1, orderType=None))
    sync(services, acme)
    discard(services, find_case(services))
    before = find_case(services)
    set_strict_mappings(services, acme)
    assert remap(services, acme).records_failed == 1
    assert find_case(services) == before


@pytest.mark.parametrize("with_id", [True, False])
def test_a_correction_that_waits_is_not_loaded_once_its_case_is_discarded(
    acme: Integration, services: Services, put: Any, with_id: bool
) -> None:
    put(order("o", -1) if with_id else {key: value for key, value in order("o", 1).items() if key != "orderId"})
    sync(services, acme)
    correct(services, find_case(services), order("o", 2))
    discard(services, find_case(services))
    assert leftovers(services.database) == {}
    assert sync(services, acme).records_processed == 0
    assert remap(services, acme).records_failed == 1
    assert rows(services.database, PRICE, "o") == []
    assert find_case(services).resolution == "DISCARDED"


def test_a_correction_that_a_run_is_loading_is_dropped_once_its_case_is_discarded(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    correct(services, find_case(services), order("o", 2))
    run = begin(services, acme)
    pipeline.transform(services.database, run)
    pipeline.check(services.database, run, quality_settings())
    discard(services, find_case(services))
    loaded = pipeline.load(services.database, run)
    pipeline.finish(services.database, run)
    assert (loaded.loaded, loaded.quarantined) == (0, 1)
    assert rows(services.database, PRICE, "o") == []


def test_a_discard_needs_a_reason_and_an_open_case_and_an_edit_takes_it_back(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    case = find_case(services)
    with pytest.raises(UsageError, match="needs a reason"):
        discard(services, case, "  ")
    discard(services, case)
    with pytest.raises(OutOfDate, match="is closed: DISCARDED by ben at "):
        discard(services, case)
    assert correct(services, case, order("o", 1)).resolution is None
    replay(services, acme)
    assert [each["decision"] for each in find_case(services).decisions] == ["DISCARD", "EDIT"]
    with pytest.raises(OutOfDate, match="is closed: EDITED by ann"):
        correct(services, case, order("o", 2))
    with pytest.raises(NotFoundHere):
        discard(services, Case(**{**case.__dict__, "id": uuid4()}))
