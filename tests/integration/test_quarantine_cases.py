"""List and replay quarantine cases, and follow them through later runs and reconciles."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest

from softpro.db.integrations import Integration
from softpro.entities import EntityType, Mode
from softpro.errors import LeaseHeld
from softpro.mapping import repository
from softpro.quality import quarantine_cases
from softpro.quality.quarantine_cases import CaseFilter, Payloads, Resolution
from softpro.runs import pipeline
from softpro.services import Services

from ..support.databases import one, rows
from ..support.fixture_types import Connected
from ..support.product import begin, quality_settings, sync
from ..support.quarantine_cases import (
    JULY,
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
from ..support.reconcile_steps import confirm, differences, reconcile, sweep
from ..support.sandbox import Sandbox


def test_an_edited_record_that_fails_by_a_later_mapping_reopens_its_case(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("o", -1))
    sync(services, acme)
    correct(services, find_case(services), {**order("o", 1), "orderType": None})
    replay(services, acme)
    assert find_case(services).resolution == "EDITED"
    set_strict_mappings(services, acme)  # requires the order type
    remap(services, acme)
    case = find_case(services)
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
    assert find_case(services).resolution == "LOADED"


def test_a_corrected_record_is_no_difference_to_a_reconcile(acme: Integration, services: Services, put: Any) -> None:
    put(order("o", -1))
    sync(services, acme)
    correct(services, find_case(services), order("o", 1))
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
    correct(services, find_case(services), order("found", "a lot"))
    assert replay(services, acme).records_failed == 1
    put(order("found", "a lot"))  # SoftPro assigns the id too, with the same wrong price
    for _ in range(2):
        audit = reconcile(services, acme)
        assert (audit.status, audit.not_loaded, audit.differing) == ("COMPLETED", 0, 1)
        assert differences(services.database) == {"found": ("DIFFERS", "QUARANTINED")}
        assert one(services.database, "select count(*) from raw.pending") == 0


def test_a_correction_that_failed_during_a_sweep_is_not_pending_again(
    acme: Integration, services: Services, put: Any
) -> None:
    nameless = order("o", 1)
    del nameless["orderId"]
    put(nameless)
    sync(services, acme)
    audit = sweep(services, acme, seconds=0)
    correct(services, find_case(services), order("found", "a lot"))
    assert sync(services, acme).records_failed == 1
    audit = confirm(services, sweep(services, acme, audit.run_id))
    assert (audit.not_loaded, one(services.database, "select count(*) from raw.pending")) == (0, 0)


def test_a_replay_takes_all_cases_or_those_that_are_named_and_leaves_other_organizations_alone(
    acme: Integration, services: Services, sandbox: Sandbox, connected: Connected, put: Any
) -> None:
    globex_at = sandbox.unused_organization()
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
        set_strict_mappings(services, integration)
        assert sync(services, integration).records_failed == 3
        with services.database.connect() as connection:
            repository.restore(connection, integration.stream(EntityType.TRANSACTION), 1, "a test")

    with services.database.connect() as connection:
        listed, total = quarantine_cases.page(connection, acme.id, CaseFilter(), 200, 0)
    assert total == 3
    assert outcome(replay(services, acme, listed[0].id)) == ("COMPLETED", 1, 0)
    assert outcome(replay(services, acme)) == ("COMPLETED", 2, 0)

    remaining = rows(services.database, "select organization_id from softpro.quarantine where resolved_at is null")
    assert [row["organization_id"] for row in remaining] == ["globex"] * 3


def test_a_replay_waits_for_the_lease_and_an_edit_does_not(acme: Integration, services: Services, put: Any) -> None:
    put(order("o", -1))
    sync(services, acme)
    run = begin(services, acme)
    correct(services, find_case(services), order("o", 1))
    with pytest.raises(LeaseHeld):
        replay(services, acme)
    pipeline.apply(services.database, run, quality_settings())
    pipeline.finish(services.database, run)
    assert find_case(services).resolution == "EDITED"


def test_cases_are_listed_by_type_column_rule_and_resolution_newest_first(
    acme: Integration, services: Services, put: Any
) -> None:
    put(order("negative", -1))
    sync(services, acme)
    put(order("wordy", "a lot", LATEST))
    put(order("nul", 1, LATEST, notes="\x00"))
    sync(services, acme)
    discard(services, find_case(services, "nul"))

    def listed(limit: int = 50, offset: int = 0, **wanted: Any) -> list[str | None]:
        with services.database.connect() as connection:
            found, total = quarantine_cases.page(connection, acme.id, CaseFilter(**wanted), limit, offset)
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
    case = find_case(services)
    with services.database.connect() as connection:
        both = quarantine_cases.payloads(connection, case)
    shown = quarantine_cases.as_json_bytes(case, both)
    assert b"\n" not in shown
    decoded = json.loads(shown, parse_int=str, parse_float=str)
    assert decoded["payloadEncoding"] == "json"
    assert decoded["payload"] == json.loads(both.payload, parse_int=str, parse_float=str)
    assert both.payload == payload or case.mapping_version == 1
    assert decoded["reasons"][0]["message"]


@pytest.mark.parametrize("payload", [b'{"notes": "\xff"}', b'{"price": NaN}', b"[" * 100_000, b""])
def test_a_payload_that_is_no_json_is_shown_as_base64(
    acme: Integration, services: Services, put: Any, payload: bytes
) -> None:
    put(order("o", -1))
    sync(services, acme)
    decoded = json.loads(quarantine_cases.as_json_bytes(find_case(services), Payloads(payload, None)))
    assert (decoded["payloadEncoding"], b64decode(decoded["payload"])) == ("base64", payload)
