"""Preview a proposed mapping set on real records, as a run would apply it, without writing."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from softpro.analysis.preview import Preview, RecordSelection, preview
from softpro.db.integrations import Integration
from softpro.entities import EntityType, SyncType
from softpro.errors import MappingError, PreviewRunning
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.mapping.preview_diff import Effect, summary
from softpro.runs import sync as runs_sync
from softpro.services import Services
from softpro.timestamps import format_time

from ..support.database_state import staging
from ..support.databases import dump, execute, one, rows
from ..support.fixture_types import Connected
from ..support.forked_process import ForkedProcess
from ..support.product import quality_settings, sync

TRANSACTION = EntityType.TRANSACTION
DEFAULTS = default_mappings(TRANSACTION)


@pytest.fixture
def acme(services: Services, connected: Connected) -> Integration:
    """Connect and load 45 transactions."""
    integration = connected("acme")
    assert sync(services, integration).status == "COMPLETED"
    return integration


def changed(column: str, **how: Any) -> list[Mapping]:
    return [replace(each, **how) if each.roi_systems_field == column else each for each in DEFAULTS]


def ruled(column: str, rule: str) -> list[Mapping]:
    return changed(column, transformation_rule=rule, direction="SOFTPRO_TO_ROI")


def show(services: Services, acme: Integration, proposed: list[Mapping], **chosen: Any) -> Preview:
    return preview(services.database, acme, TRANSACTION, proposed, RecordSelection(**chosen), replace=True)


def pasted(services: Services, acme: Integration, proposed: list[Mapping], record: str) -> Effect:
    (effect,) = show(services, acme, proposed, pasted=record.encode()).effects
    return effect


def of(effect: Effect, target: str) -> tuple[Any, Any, str | None]:
    (field,) = [field for field in effect.fields if field.roi_systems_field == target]
    return field.before, field.after, field.error


def test_the_set_in_force_shows_each_record_unchanged(services: Services, acme: Integration) -> None:
    stored = {
        row["softpro_order_id"]: row
        for row in rows(services.database, "select * from roi.transactions order by softpro_order_id")
    }

    shown = show(services, acme, DEFAULTS, latest=100)

    assert summary(shown.effects) == {
        "records": 45,
        "changedRecords": 0,
        "changedFields": {},
        "failing": 0,
        "failingBefore": 0,
    }
    assert {effect.entity_id for effect in shown.effects} == stored.keys()
    assert (shown.version, shown.unknown) == (1, [])
    for effect in shown.effects:
        row = stored[str(effect.entity_id)]
        for target in ("status", "purchase_price", "property_latitude"):
            assert of(effect, target) == (row[target], row[target], None)
        assert of(effect, "opened_at")[1] == (row["opened_at"] and format_time(row["opened_at"]))


def test_a_change_is_shown_before_and_after_on_the_records_that_are_named(
    services: Services, acme: Integration
) -> None:
    query = (
        "select softpro_order_id as id, status from roi.transactions where status is not null order by 1 desc limit 2"
    )
    two = rows(services.database, query)

    shown = show(services, acme, ruled("status", "$lowercase($)"), ids=[two[0]["id"], "ord-none", "\x00", two[1]["id"]])

    assert [effect.entity_id for effect in shown.effects] == [row["id"] for row in two]
    assert shown.unknown == ["ord-none", "\x00"]
    for effect, row in zip(shown.effects, two, strict=True):
        assert of(effect, "status") == (row["status"], row["status"].lower(), None)
        assert effect.changed == ["status"]
        assert effect.would_load
    assert summary(shown.effects)["changedFields"] == {"status": 2}


def test_the_latest_that_landed_are_shown_unless_others_are_named(services: Services, acme: Integration) -> None:
    landed = "update raw.records set last_seen_at = now() + interval '1 day' where entity_id = %s"
    latest = one(services.database, "select min(entity_id) from raw.records where entity_type = 'TRANSACTION'")
    execute(services.database, landed, latest)
    shown = show(services, acme, DEFAULTS)
    assert (len(shown.effects), shown.effects[0].entity_id) == (10, latest)


def test_neither_deleted_records_nor_another_organizations_are_shown(
    services: Services, acme: Integration, connected: Connected
) -> None:
    other = connected("other")
    entity_id = one(services.database, "select min(entity_id) from raw.records where entity_type = 'TRANSACTION'")
    assert show(services, other, DEFAULTS, ids=[entity_id]).unknown == [entity_id]
    assert show(services, other, DEFAULTS).effects == []
    execute(services.database, "update raw.records set deleted_at = now() where entity_id = %s", entity_id)
    assert show(services, acme, DEFAULTS, ids=[entity_id]).unknown == [entity_id]


RECORD = """
{"orderId": "ord-pasted", "updatedAt": "2025-01-01T00:00:00Z", "status": "OPENED", "purchasePrice": 100.10,
 "notes": "yes", "propertyAddress": {"coordinates": {"latitude": 33.4000000000000000000000000001}}}
"""


def test_a_pasted_record_is_shown_with_all_its_digits(services: Services, acme: Integration) -> None:
    effect = pasted(services, acme, changed("purchase_price", softpro_field="none", default_value="7.50"), RECORD)
    assert (effect.entity_id, effect.would_load, effect.changed) == ("ord-pasted", True, ["purchase_price"])
    assert of(effect, "purchase_price") == (Decimal("100.10"), Decimal("7.50"), None)
    assert of(effect, "property_latitude")[1] == Decimal("33.4000000000000000000000000001")


@pytest.mark.parametrize(
    ("proposed", "target", "rule", "error"),
    [
        (
            changed("purchase_price", softpro_field="notes", direction="SOFTPRO_TO_ROI"),
            "purchase_price",
            "type",
            'notes: "yes" is not a number',
        ),
        (ruled("status", '$error("never")'), "status", "transformation", "never"),
        (changed("notes", softpro_field="remarks", required=True), "notes", "required", "remarks is missing or null"),
        (
            ruled("purchase_price", "0 - $"),
            "purchase_price",
            "expect_column_values_to_be_between",
            "expected to be between {'min_value': 0, 'max_value': 999999999999.99}, found -100.1",
        ),
        (
            changed("notes", validation_rules={"enum": ["no", "maybe"]}),
            "notes",
            "validationRules.enum",
            "notes: validationRules.enum demands one of no, maybe, found yes",
        ),
        (
            [
                *DEFAULTS,
                Mapping(TRANSACTION, "status", "custom.state", "SOFTPRO_TO_ROI", validation_rules={"length": 3}),
            ],
            "custom.state",
            "validationRules.length",
            'status: validationRules.length demands 3 characters, found "OPENED"',
        ),
    ],
    ids=["type", "rule", "required", "suite", "validation rule", "of custom"],
)
def test_why_a_record_would_not_load_is_what_a_run_would_say(
    services: Services, acme: Integration, proposed: list[Mapping], target: str, rule: str, error: str
) -> None:
    effect = pasted(services, acme, proposed, RECORD)
    assert not effect.would_load
    assert error in str(of(effect, target)[2])
    assert [(reason["column"], reason["rule"]) for reason in effect.reasons] == [(target, rule)]


def test_the_preview_and_the_remap_that_follows_say_the_same(services: Services, acme: Integration) -> None:
    proposed = ruled("purchase_price", "$ > 500000 ? 0 - $ : $")
    shown = show(services, acme, proposed, latest=100)
    expected = {effect.entity_id: effect.reasons for effect in shown.effects if not effect.would_load}
    assert 0 < len(expected) < 45

    with services.database.connect() as connection:
        repository.replace(connection, acme.id, "acme", proposed, "me")
    runs_sync.remap(
        services.database, acme, TRANSACTION, sync_type=SyncType.MANUAL, run_id="remap", quality=quality_settings()
    )

    cases = rows(services.database, "select entity_id, reasons from softpro.quarantine")
    assert {case["entity_id"]: case["reasons"] for case in cases} == expected
    again = show(services, acme, DEFAULTS, latest=100)
    assert (summary(again.effects)["failing"], summary(again.effects)["failingBefore"]) == (0, len(expected))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"status": "OPENED"}', "orderId is missing, or not a text that can be an id"),
        ('{"orderId": "ord-1", "status": "OPENED"}', "updatedAt is missing or is not a timestamp"),
        (
            '{"orderId": "ord-1", "updatedAt": "2025-01-01T00:00:00Z", "status": "OPENED", "x": "\\u0000"}',
            "jsonb can't",
        ),
    ],
)
def test_a_pasted_record_that_could_not_land_is_still_mapped_and_says_so(
    services: Services, acme: Integration, record: str, message: str
) -> None:
    effect = pasted(services, acme, ruled("status", "$lowercase($)"), record)
    assert of(effect, "status") == ("OPENED", "opened", None)
    assert [(reason["rule"], message in str(reason["message"])) for reason in effect.reasons] == [("readable", True)]


def test_a_set_that_can_not_work_is_refused_with_all_problems(services: Services, acme: Integration) -> None:
    with pytest.raises(MappingError) as refused:
        show(services, acme, [*ruled("status", "((")[:3], Mapping(TRANSACTION, "a", "no_such_column")])
    assert [problem[:10] for problem in refused.value.problems] == ["mapping 3:", "mapping 4:"]
    with pytest.raises(MappingError, match="mapping 25: entityType should be TRANSACTION"):
        show(services, acme, [*DEFAULTS, Mapping(EntityType.CONTACT, "email", "email")])


def test_nothing_is_written(services: Services, acme: Integration) -> None:
    before = dump(services.database, versions=True)
    show(services, acme, ruled("purchase_price", "0 - $"), latest=100)
    pasted(services, acme, changed("notes", softpro_field="remarks", required=True), RECORD)
    with pytest.raises(MappingError):
        show(services, acme, ruled("status", "(("))
    assert dump(services.database, versions=True) == before


def test_previews_of_one_stream_and_of_others_at_once_do_not_mix(
    services: Services, acme: Integration, connected: Connected
) -> None:
    other = connected("other")
    sync(services, other)
    before = dump(services.database, versions=True)

    def work(number: int) -> tuple[int, set[tuple[Any, Any]]]:
        integration = (acme, other)[number % 2]
        while True:
            try:
                shown = show(services, integration, ruled("purchase_price", f"{number} - 5"), latest=30)
                break
            except PreviewRunning:  # only one of a stream runs, and no other waits for it
                time.sleep(0.05)
        return summary(shown.effects)["failing"], {of(effect, "purchase_price")[1:] for effect in shown.effects}

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(work, (3, 4, 7, 8)))

    assert [failing for failing, _ in outcomes] == [30, 30, 0, 0]
    assert [{value for value, _ in values} for _, values in outcomes] == [{-2}, {-1}, {2}, {3}]
    assert dump(services.database, versions=True) == before


def test_the_next_preview_clears_the_leftovers_of_a_killed_one(
    services: Services, acme: Integration, settings: dict[str, str]
) -> None:
    before = dump(services.database, versions=True)
    proposed = [{"entityType": "TRANSACTION", "softproField": "notes", "roiSystemsField": "notes"}]
    arguments = ("softpro", "mappings", "preview", "acme", "--file", "-")
    with ForkedProcess(*arguments, environment=settings, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(proposed))
        process.stdin.close()
        deadline = time.monotonic() + 60
        while not staging(services.database)["transactions"] and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert staging(services.database)["transactions"] == 10

    show(services, acme, DEFAULTS)

    assert dump(services.database, versions=True) == before


def test_rules_for_both_ways_are_held_against_each_other(services: Services, acme: Integration) -> None:
    rules = {"fromSoftPro": "$lowercase($)", "toSoftPro": "$uppercase($)"}
    proposed = changed("status", transformation_rule=rules)
    records = {
        '"OPENED"': ("OPENED", "OPENED", True, None),
        '"On Hold"': ("On Hold", "ON HOLD", False, None),
        "7": (7, None, False, "T0410: Argument 1 must be String"),
    }
    for status, expected in records.items():
        record = f'{{"orderId": "o", "updatedAt": "2025-03-01T00:00:00.000Z", "status": {status}}}'
        effect = pasted(services, acme, proposed, record)
        (back,) = [field.back for field in effect.fields if field.back is not None]
        assert tuple(back.as_json().values()) == expected
    missing = pasted(services, acme, proposed, '{"orderId": "o", "updatedAt": "2025-03-01T00:00:00.000Z"}')
    (back,) = [field.back for field in missing.fields if field.back is not None]
    assert (back.same, back.error) == (False, "T0410: Argument 1 must be String")
