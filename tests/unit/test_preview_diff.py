"""Compare the mapping of a record by two sets, field by field."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from softpro.entities import EntityType
from softpro.mapping.compiler import compile_mappings, map_records
from softpro.mapping.mapping import Mapping
from softpro.mapping.preview_diff import Effect, Outcome, effect, outcome, summary
from softpro.mapping.rules.evaluator import evaluating
from softpro.mapping.step import Reason

TRANSACTION = EntityType.TRANSACTION
NOTES = [Mapping(TRANSACTION, "notes", "notes")]


def to(column: str, field: str, **how: Any) -> Mapping:
    return Mapping(TRANSACTION, field, column, **how)


def made_by(mappings: Sequence[Mapping], record: dict[str, Any], more_reasons: Sequence[Reason] = ()) -> Outcome:
    compiled = compile_mappings(TRANSACTION, mappings)
    with evaluating(compiled.rule_inputs.rules) as rules:
        (row,) = map_records(compiled, [(json.dumps(record).encode(), None)], rules)
    return outcome(compiled, row, more_reasons)


def change(
    current: Sequence[Mapping], proposed: Sequence[Mapping], record: dict[str, Any], against: Sequence[Reason] = ()
) -> Effect:
    before, after = made_by(current, record), made_by(proposed, record, against)
    return effect("ord-1", current, proposed, before, after, {})


def sides(of: Effect) -> dict[str, tuple[Any, Any, bool]]:
    return {field.roi_systems_field: (field.before, field.after, field.changed) for field in of.fields}


def test_every_target_of_both_sets_is_there_the_proposed_ones_first() -> None:
    proposed = [to("purchase_price", "price"), to("status", "state")]
    shown = change([to("notes", "notes"), to("status", "status")], proposed, {"notes": "n", "price": 5, "state": "s"})
    assert sides(shown) == {"purchase_price": (None, 5, True), "status": (None, "s", True), "notes": ("n", None, True)}
    assert [field.softpro_field for field in shown.fields] == ["price", "state", "notes"]


def test_values_are_json_with_all_their_digits() -> None:
    mappings = [to("opened_at", "at"), to("property_latitude", "lat"), to("custom", "all"), to("notes", "number")]
    before = made_by(mappings, {"at": "2025-01-01T02:00:00+02:00", "lat": 1.1, "all": {"a": [1.25, None]}, "number": 7})
    shown = {column: value for column, value in before.values.items() if value is not None}
    assert shown == {
        "opened_at": "2025-01-01T00:00:00.000Z",
        "property_latitude": Decimal("1.1"),
        "custom": {"a": [Decimal("1.25"), None]},
        "notes": "7",
    }


def test_the_same_number_written_otherwise_is_no_change() -> None:
    shown = change([to("purchase_price", "a")], [to("purchase_price", "b")], {"a": 1, "b": "1.00"})
    assert sides(shown) == {"purchase_price": (1, Decimal("1.00"), False)}
    assert shown.changed == []


def test_a_name_below_custom_is_a_target_of_its_own() -> None:
    current = [to("custom", "customFields")]
    proposed = [*current, to("custom.city", "city")]
    shown = change(current, proposed, {"city": "Tempe", "customFields": {"city": "Mesa", "x": 1}})
    assert sides(shown) == {
        "custom": ({"city": "Mesa", "x": 1}, {"city": "Tempe", "x": 1}, True),
        "custom.city": ("Mesa", "Tempe", True),
    }


def test_mappings_that_do_not_load_are_no_targets() -> None:
    proposed = [to("notes", "notes", enabled=False), to("status", "status", direction="ROI_TO_SOFTPRO")]
    assert sides(change([], proposed, {"notes": "n", "status": "s"})) == {}
    assert sides(change(NOTES, proposed, {"notes": "n"})) == {"notes": ("n", None, True)}


def test_a_field_that_fails_says_why_and_so_does_its_record() -> None:
    proposed = [to("purchase_price", "price"), to("loan_amount", "loan", required=True)]
    against: list[Reason] = [{"column": "loan_amount", "rule": "check", "message": "too odd"}]
    shown = change(NOTES, proposed, {"price": "abc"}, against)
    assert {field.roi_systems_field: field.error for field in shown.fields} == {
        "purchase_price": 'price: "abc" is not a number',
        "loan_amount": "loan is missing or null; too odd",
        "notes": None,
    }
    assert [reason["rule"] for reason in shown.reasons] == ["type", "required", "check"]
    assert not shown.would_load


def test_the_summary_counts_records_and_how_often_each_target_changes() -> None:
    strict = [to("notes", "notes", required=True), to("status", "status")]
    effects = [
        change(NOTES, strict, {"notes": "n"}),
        change(NOTES, strict, {"notes": "n", "status": "s"}),
        change(NOTES, strict, {}),
        change(strict, NOTES, {"status": "s"}),
    ]
    assert summary(effects) == {
        "records": 4,
        "changedRecords": 2,
        "changedFields": {"status": 2},
        "failing": 1,
        "failingBefore": 1,
    }
