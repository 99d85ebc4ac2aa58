"""Map one record from the vendor's JSON to a row, or to the reasons for its rejection."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softpro.entities import EntityType
from softpro.mapping import paths
from softpro.mapping.columns import COLUMNS, Type
from softpro.mapping.compiler import compile_mappings
from softpro.mapping.compiler import map_records as map_all
from softpro.mapping.convert import CONVERTERS
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.mapping.paths import MISSING
from softpro.mapping.rules.evaluator import evaluating
from softpro.mapping.set_validation import validate
from softpro.mapping.step import Reason

TRANSACTION = EntityType.TRANSACTION


def mapped(payload: bytes | dict[str, Any], *mappings: Mapping) -> tuple[dict[str, Any], list[Reason]]:
    """Return the columns with a value, and the reasons."""
    compiled = compile_mappings(TRANSACTION, mappings)
    record = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    with evaluating(compiled.rule_inputs.rules) as rules:
        [result] = map_all(compiled, [(record, None)], rules)
    row = dict(zip(compiled.columns, result.values, strict=True))
    return {column: value for column, value in row.items() if value is not None}, result.reasons


def to(column: str, field: str = "field", **how: Any) -> Mapping:
    return Mapping(TRANSACTION, field, column, **how)


# Paths


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status", "OPENED"),
        ("propertyAddress.city", "Tempe"),
        ("buyer[0].contactId", "con-1"),
        ("buyer[1].contactId", MISSING),
        ("buyer.contactId", MISSING),
        ("status.city", MISSING),
        ("status[0]", MISSING),
        ("grid[1][0]", 3),
        ("nothing", None),
        ("nothing.inside", MISSING),
        ("absent", MISSING),
        ("with space", MISSING),
        ("$odd-name", 9),
    ],
)
def test_a_path_leads_to_a_value_or_to_nothing(path: str, value: object) -> None:
    record = {
        "status": "OPENED",
        "propertyAddress": {"city": "Tempe"},
        "buyer": [{"contactId": "con-1"}],
        "grid": [[1, 2], [3]],
        "nothing": None,
        "$odd-name": 9,
    }
    if " " in path:
        with pytest.raises(ValueError, match="is not a dotted path"):
            paths.parse(path)
    else:
        assert paths.look_up(record, paths.parse(path)) == value


@pytest.mark.parametrize("path", ["", ".", "a.", ".a", "a..b", "[0]", "a[", "a[x]", "a[-1]", "a[0]b", "a[12345]"])
def test_an_invalid_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is not a dotted path such as propertyAddress"):
        paths.parse(path)


# Empty values of five kinds: no field, null, an empty text, an empty object, a null on the path


def test_a_missing_field_a_null_and_a_null_on_the_way_are_null() -> None:
    records: list[dict[str, Any]] = [{}, {"a": None}, {"a": {}}, {"a": {"b": None}}]
    for record in records:
        assert mapped(record, to("notes", "a.b"), to("purchase_price", "a.b")) == ({}, [])


def test_an_empty_text_stays_an_empty_text() -> None:
    assert mapped({"field": ""}, to("notes")) == ({"notes": ""}, [])


def test_empty_custom_fields_stay_an_empty_object() -> None:
    assert mapped({"field": {}}, to("custom")) == ({"custom": "{}"}, [])


def test_zero_and_false_are_something() -> None:
    assert mapped({"field": 0}, to("purchase_price", default_value="5")) == ({"purchase_price": Decimal(0)}, [])
    assert mapped({"field": False}, to("notes", default_value="5")) == ({"notes": "false"}, [])


@pytest.mark.parametrize("record", [{}, {"field": None}])
def test_a_default_replaces_a_missing_value(record: dict[str, Any]) -> None:
    row, reasons = mapped(record, to("purchase_price", default_value="12.50", required=True))
    assert (row, reasons) == ({"purchase_price": Decimal("12.50")}, [])


def test_a_default_does_not_replace_an_empty_text() -> None:
    assert mapped({"field": ""}, to("notes", default_value="none"))[0] == {"notes": ""}


@pytest.mark.parametrize("record", [{}, {"field": None}])
def test_a_required_field_that_holds_nothing_is_a_reason(record: dict[str, Any]) -> None:
    assert mapped(record, to("notes", required=True)) == (
        {},
        [{"column": "notes", "rule": "required", "message": "field is missing or null"}],
    )


# Conversion


@pytest.mark.parametrize(
    ("sent", "money"),
    [
        (b"0.1", "0.1"),
        (b"450000", "450000"),
        (b"450000.10", "450000.10"),
        (b"0.290", "0.29"),
        (b"999999999999.99", "999999999999.99"),
        (b"-1.05", "-1.05"),
        (b"1e3", "1000"),
        (b"0.1" + b"0" * 40, "0.1"),
        (b"100e-2", "1"),
        (b'"123.45"', "123.45"),
        (b"123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_money_is_exact_to_the_cent(sent: bytes, money: str) -> None:
    row, reasons = mapped(b'{"field": %s}' % sent, to("purchase_price"))
    assert reasons == []
    assert row["purchase_price"] == Decimal(money)


@given(st.decimals(min_value=0, max_value=Decimal("999999999999.99"), places=2))
def test_every_amount_survives(amount: Decimal) -> None:
    assert mapped(b'{"field": %s}' % str(amount).encode(), to("loan_amount"))[0] == {"loan_amount": amount}


@pytest.mark.parametrize(
    ("column", "sent", "message"),
    [
        ("purchase_price", b"0.001", "field: 0.001 has more than two decimals"),
        ("purchase_price", b"100.005", "field: 100.005 has more than two decimals"),
        ("purchase_price", b"0.1" + b"0" * 40 + b"1", f"field: 0.1{'0' * 40}1 has more than two decimals"),
        ("property_latitude", b"0." + b"1" * 1001, f"field: 0.{'1' * 58}… is not a number that can be stored"),
        ("purchase_price", b'"a lot"', 'field: "a lot" is not a number'),
        ("purchase_price", b'""', 'field: "" is not a number'),
        ("purchase_price", b"true", "field: true is not a number"),
        ("purchase_price", b"[1]", "field: [1] is not a number"),
        ("purchase_price", b'"NaN"', 'field: "NaN" is not a number'),
        ("purchase_price", b'"Infinity"', 'field: "Infinity" is not a number'),
        ("purchase_price", b'"1_000"', 'field: "1_000" is not a number'),
        ("purchase_price", b'"1,000.00"', 'field: "1,000.00" is not a number'),
        ("purchase_price", '"١٢"'.encode(), 'field: "١٢" is not a number'),
        ("purchase_price", b"1e999", "field: 1E+999 is not a number that can be stored"),
        ("property_latitude", b"1e-999", "field: 1E-999 is not a number that can be stored"),
        ("notes", b'{"a": 1}', 'field: {"a":1} is not a text'),
        ("notes", b"[]", "field: [] is not a text"),
        ("notes", rb'"a\u0000b"', "field: a text with a NUL character can't be stored"),
        ("custom", rb'{"a": ["\u0000"]}', "field: a text with a NUL character can't be stored"),
        ("opened_at", b'"2025-13-01"', 'field: "2025-13-01" is not a timestamp'),
        ("opened_at", b'"soon"', 'field: "soon" is not a timestamp'),
        ("opened_at", b"1740848645", "field: 1740848645 is not a timestamp"),
        ("opened_at", b'""', 'field: "" is not a timestamp'),
        ("notes", b'["%s"]' % (b"x" * 100), f'field: ["{"x" * 58}… is not a text'),
    ],
)
def test_a_value_that_a_column_cannot_hold_is_a_reason(column: str, sent: bytes, message: str) -> None:
    row, reasons = mapped(b'{"field": %s}' % sent, to(column))
    assert row == {}
    assert reasons == [{"column": column, "rule": "type", "message": message}]


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b'"\xc3\xa9t\xc3\xa9 \xf0\x9f\x8f\xa0"', "été 🏠"),
        (rb'"\ud83c\udfe0"', "🏠"),
        (b'"  kept  "', "  kept  "),
        (b"12.50", "12.50"),
        (b"12345678901234567890123", "12345678901234567890123"),
        (b"true", "true"),
    ],
)
def test_texts_keep_every_character_and_scalars_become_texts(sent: bytes, text: str) -> None:
    assert mapped(b'{"field": %s}' % sent, to("notes"))[0] == {"notes": text}


@pytest.mark.parametrize(
    ("sent", "moment"),
    [
        ("2025-03-01T17:04:05.123Z", datetime(2025, 3, 1, 17, 4, 5, 123_000, UTC)),
        ("2025-03-01T17:04:05Z", datetime(2025, 3, 1, 17, 4, 5, 0, UTC)),
        ("2025-03-01T17:04:05.123+02:00", datetime(2025, 3, 1, 15, 4, 5, 123_000, UTC)),
        ("2025-03-01T17:04:05.123", datetime(2025, 3, 1, 17, 4, 5, 123_000, UTC)),
        ("2025-03-01", datetime(2025, 3, 1, tzinfo=UTC)),
    ],
)
def test_timestamps_keep_their_milliseconds(sent: str, moment: datetime) -> None:
    assert mapped({"field": sent}, to("opened_at"))[0] == {"opened_at": moment}


def test_custom_fields_land_whole_with_exact_numbers() -> None:
    sent = b'{"a":{"b":[1,2.50,null,true]},"big":12345678901234567890.10,"\xc3\xa9":"\xf0\x9f\x8f\xa0"}'
    row, _ = mapped(b'{"field": %s}' % sent, to("custom"))
    assert row["custom"].encode() == sent


def test_the_creation_time_is_kept_regardless_of_the_mappings() -> None:
    made = datetime(2025, 3, 1, tzinfo=UTC)
    assert mapped({"createdAt": "2025-03-01T00:00:00.000Z"}) == ({"softpro_created_at": made}, [])


def test_every_reason_is_named_not_only_the_first() -> None:
    _, reasons = mapped(
        {"a": "x", "b": {}, "createdAt": 7},
        to("purchase_price", "a"),
        to("notes", "b"),
        to("status", "c", required=True),
    )
    assert [(reason["column"], reason["rule"]) for reason in reasons] == [
        ("softpro_created_at", "type"),
        ("purchase_price", "type"),
        ("notes", "type"),
        ("status", "required"),
    ]


# Rules


@pytest.mark.parametrize(
    ("rule", "record", "value"),
    [
        ("$uppercase($)", {"field": "open"}, "OPEN"),
        ("$.name & '!'", {"field": {"name": "Ann"}}, "Ann!"),
        ("$record.first & ' ' & $record.last", {"first": "Ann", "last": "Lee"}, "Ann Lee"),
        ("$lookup({'OPENED': 'Open'}, $)", {"field": "OPENED"}, "Open"),
        ("$ = 'a' ? 'yes' : 'no'", {"field": "b"}, "no"),
        ("$exists($) ? 'there' : 'missing'", {}, "missing"),
        ("$ = null ? 'null' : 'missing'", {"field": None}, "null"),
        ("$ = null ? 'null' : 'missing'", {}, "missing"),
    ],
)
def test_in_a_rule_dollar_is_the_fields_value_and_record_the_record(
    rule: str, record: dict[str, Any], value: str
) -> None:
    assert mapped(record, to("notes", transformation_rule=rule)) == ({"notes": value}, [])


@pytest.mark.parametrize("rule", ["$.absent", "null", "$lookup({'a': 1}, 'b')"])
def test_a_rule_that_says_undefined_or_null_says_nothing(rule: str) -> None:
    assert mapped({"field": {}}, to("notes", transformation_rule=rule)) == ({}, [])
    assert mapped({"field": {}}, to("notes", transformation_rule=rule, default_value="d"))[0] == {"notes": "d"}
    _, (reason,) = mapped({"field": {}}, to("notes", transformation_rule=rule, required=True))
    assert reason["rule"] == "required"


def test_money_through_a_rule_stays_exact() -> None:
    row, reasons = mapped(b'{"field": 0.1}', to("purchase_price", transformation_rule="$ + 0.2"))
    assert (row, reasons) == ({"purchase_price": Decimal("0.3")}, [])


@pytest.mark.parametrize("rule", ["$error('no good')", "$ + 'text'", "$substring($, {})"])
def test_a_rule_that_fails_on_a_record_is_a_reason(rule: str) -> None:
    row, (reason,) = mapped({"field": 1}, to("notes", transformation_rule=rule))
    assert row == {}
    assert (reason["column"], reason["rule"]) == ("notes", "transformation")
    assert str(reason["message"]).startswith("field: ")


def test_a_rule_over_a_record_with_a_number_it_cannot_carry_is_a_reason() -> None:
    _, (reason,) = mapped({"field": 1, "big": 10**30}, to("notes", transformation_rule="$keys($record)[0]"))
    assert reason["rule"] == "transformation"
    row, reasons = mapped({"field": 1, "big": 10**30}, to("notes", transformation_rule="$record.field"))
    assert (row, reasons) == ({"notes": "1"}, [])


@pytest.mark.parametrize("odd", [b"1" * 5000, b"[" * 100_000 + b"]" * 100_000])
def test_a_record_that_cannot_be_read_at_all_is_a_reason(odd: bytes) -> None:
    row, (reason,) = mapped(b'{"field": "x", "odd": %s}' % odd, to("notes", transformation_rule="$record.field"))
    assert (row, reason["column"], reason["rule"]) == ({}, None, "readable")


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\x01b"])
def test_a_name_may_hold_any_character(name: str) -> None:
    assert mapped({name: "x"}, to("notes", name)) == ({"notes": "x"}, [])


def test_a_path_may_be_as_long_as_one_likes() -> None:
    record: Any = "x"
    for _ in range(60):
        record = {"a": record}
    assert mapped(record, to("notes", ".".join(["a"] * 60))) == ({"notes": "x"}, [])


def test_unmapped_fields_need_not_be_readable() -> None:
    assert mapped(b'{"field": "x", "odd": %s}' % (b"1" * 5000), to("notes")) == ({"notes": "x"}, [])


@pytest.mark.parametrize("rule", ["($f := function($x) { $f($x) + 1 }; $f(1))", "($f := function() { $f() }; $f())"])
def test_a_rule_without_end_is_stopped(rule: str) -> None:
    _, (reason,) = mapped({"field": 1}, to("notes", transformation_rule=rule))
    assert reason["rule"] == "transformation"


# custom.<name>


def test_custom_names_are_laid_over_the_custom_fields() -> None:
    row, reasons = mapped(
        {"all": {"kept": 1, "replaced": 2}, "x": [1.5], "y": None},
        to("custom", "all"),
        to("custom.replaced", "x"),
        to("custom.null", "y"),
        to("custom.absent", "z"),
        to("custom.default", "y", default_value="d"),
    )
    assert reasons == []
    assert json.loads(row["custom"]) == {"kept": 1, "replaced": [1.5], "null": None, "default": "d"}


def test_custom_names_need_no_custom_fields() -> None:
    assert mapped({"x": "v"}, to("custom.name", "x"))[0] == {"custom": '{"name":"v"}'}
    assert mapped({}, to("custom.name", "x"))[0] == {}


def test_custom_fields_that_are_no_object_leave_no_place_for_a_name() -> None:
    _, (reason,) = mapped({"all": [1], "x": 1}, to("custom", "all"), to("custom.name", "x"))
    assert reason["column"] == "custom"


# Which mappings load


def test_mappings_that_are_off_outbound_or_of_another_entity_take_no_part() -> None:
    row, _ = mapped(
        {"field": "x"},
        to("notes", enabled=False),
        to("status", direction="ROI_TO_SOFTPRO"),
        Mapping(EntityType.CONTACT, "field", "email"),
        to("property_city", direction="SOFTPRO_TO_ROI"),
    )
    assert row == {"property_city": "x"}


@pytest.mark.parametrize("entity", list(EntityType))
def test_the_default_set_fills_every_column_and_is_accepted(entity: EntityType) -> None:
    mappings = default_mappings(entity)
    validate(mappings)
    assert sorted(mapping.roi_systems_field for mapping in mappings) == sorted(COLUMNS[entity])


def test_every_type_of_column_has_a_conversion() -> None:
    assert set(CONVERTERS) == set(Type)
