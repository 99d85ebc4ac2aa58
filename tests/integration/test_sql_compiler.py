"""Compare the mapping in PostgreSQL with the one in Python: equal results, and odd values are left to Python."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import set_json_loads

from softpro.db.database import Database
from softpro.entities import EntityType
from softpro.mapping.columns import COLUMNS, Type
from softpro.mapping.compiler import Compiled, compile_mappings, map_records
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.mapping.rules.evaluator import evaluating
from softpro.mapping.sql_compiler import columns, is_expressible, mapped_rows, rule_column

from ..support.databases import Server

TRANSACTION = EntityType.TRANSACTION
OF_TYPE = {
    Type.TEXT: "notes",
    Type.MONEY: "purchase_price",
    Type.NUMBER: "property_latitude",
    Type.TIMESTAMP: "opened_at",
    Type.JSON: "custom",
}
DECIDED_BY_SQL = [
    "null",
    '""',
    '"plain"',
    '"Ünïcode \\u2603 \\ud83c\\udfe0"',
    "7",
    "-7.25",
    "0.00",
    "0.0000001",
    "true",
    '"2025-03-01T17:04:05.123Z"',
    '"2024-02-29T23:59:59.999Z"',
    '"0001-01-01T00:00:00.000Z"',
    "{}",
    '{"a": [1, 2.50, null], "b": {"c": "d"}}',
    '{"path": "C:\\\\u0000dir"}',
]
ODD = [
    '"{not an object"',
    '"[1]"',
    '"' + "x" * 1_001 + '"',
    "[]",
    "[null]",
    "1.005",
    "1.500",
    "1e3",
    "1e29",
    "1e31",
    "-1e300",
    "1e400",
    "1e-9",
    "1e-400",
    "1" * 50,
    "9" * 4_500,
    '"12.50"',
    '" 12.50 "',
    '"1_000"',
    '"NaN"',
    '"2025-03-01"',
    '"2025-03-01T17:04:05Z"',
    '"2025-03-01T17:04:05.123+00:00"',
    '"2025-03-01T17:04:05.123456Z"',
    '"2025-02-30T00:00:00.000Z"',
    '"2025-03-01T24:00:00.000Z"',
    '"2025-03-01T23:59:60.000Z"',
    '"2025-3-1T17:04:05.123Z"',
    '"-025-03-01T17:04:05.123Z"',
    '"2025--1-01T17:04:05.123Z"',
    '"2025-03-01T 7:04:05.123Z"',
    '"2025-03-01 17:04:05.123Z"',
    '"0000-01-01T00:00:00.000Z"',
    '"10000-01-01T00:00:00.000Z"',
    '"now"',
    '"infinity"',
    '"2025-03-01T17:04:05.123Z BC"',
    '{"n": 1e5000}',
    '{"a": ' + "[" * 400 + "]" * 400 + "}",
]
BEYOND_A_DOUBLE = ["1e400", "1e-400", '{"n": 1e5000}']
times = st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds") + "Z")
near_times = times.flatmap(
    lambda text: st.tuples(st.integers(0, len(text) - 1), st.sampled_from(" 0123456789-:.TZ+/x")).map(
        lambda change: text[: change[0]] + change[1] + text[change[0] + 1 :]
    )
)
leaves = (
    st.sampled_from(DECIDED_BY_SQL + ODD)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")).map(json.dumps)
    | st.decimals(allow_nan=False, allow_infinity=False, places=2).map(str)
    | (times | near_times).map(json.dumps)
)


@pytest.fixture(scope="module")
def database(server: Server) -> Iterator[Database]:
    """Yield one database for all of these tests, which write nothing."""
    with server.fresh() as fresh:
        yield fresh


exact = partial(json.loads, parse_float=Decimal)


def comparable(value: Any, kind: Type) -> Any:
    """Return Python's value as psycopg reads PostgreSQL's."""
    return exact(value) if kind is Type.JSON and value is not None else value


def written(value: Any) -> str:
    """Return the value as text with the scale of a number, which a comparison of numbers ignores."""
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def check(database: Database, compiled: Compiled, payloads: list[str], *ruled: Sequence[str | None]) -> list[bool]:
    """Assert that both ways agree on all records that SQL decides, and return which records it leaves to Python.

    Args:
        database: The database that maps.
        compiled: The mapping set.
        payloads: The records as JSON.
        ruled: The results of each rule, one for each payload.
    """
    columns_of_rules = [sql.SQL("u.{}::jsonb").format(sql.Identifier(rule_column(rule))) for rule in range(len(ruled))]
    names = [sql.Identifier(name) for name in ("payload", *map(rule_column, range(len(ruled))), "place")]
    source = sql.SQL("select {} from unnest({}) with ordinality u({})").format(
        sql.SQL(", ").join([sql.SQL("place, payload::jsonb as payload"), *columns_of_rules]),
        sql.SQL(", ").join(sql.Literal(column) + sql.SQL("::text[]") for column in (payloads, *ruled)),
        sql.SQL(", ").join(names),
    )
    query = sql.SQL(
        "select r.*, convert_to(s.payload::text, 'UTF8') as payload from ({}) r join ({}) s using (place) where not odd"
    ).format(mapped_rows(compiled, source, ["place"]), source)
    with database.connect() as connection, evaluating(compiled.rule_inputs.rules) as rules:
        set_json_loads(exact, connection)
        decided = connection.execute(query).fetchall()
        by_python = list(map_records(compiled, [(row["payload"], None) for row in decided], rules))
    for row, (values, reasons) in zip(decided, by_python, strict=True):
        by_column = dict(zip(compiled.columns, values, strict=True))
        assert reasons == [], row
        for column in columns(compiled):
            kind = compiled.columns[column]
            expected = comparable(by_column[column], kind)
            assert row[column] == expected, (column, row)
            assert written(row[column]) == written(expected) or kind is Type.JSON
    places = {row["place"] for row in decided}
    return [place not in places for place in range(1, len(payloads) + 1)]


def to(column: str, field: str = "field", **how: Any) -> Compiled:
    return compile_mappings(TRANSACTION, [Mapping(TRANSACTION, field, column, **how)])


@pytest.mark.parametrize("kind", list(Type))
@pytest.mark.parametrize("how", [{}, {"required": True}, {"default_value": "2025-03-01T17:04:05.123Z"}])
def test_both_ways_agree_on_every_value_in_every_kind_of_column(
    database: Database, kind: Type, how: dict[str, Any]
) -> None:
    if "default_value" in how and kind in (Type.MONEY, Type.NUMBER):
        how = {"default_value": "12.5"}
    payloads = [f'{{"field": {value}}}' for value in DECIDED_BY_SQL + ODD] + ["{}"]
    odd = check(database, to(OF_TYPE[kind], **how), payloads)
    assert not all(odd)
    assert odd[0] == odd[-1] == how.get("required", False)  # a missing value is odd only where one is required


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(leaves, min_size=25, max_size=25), min_size=1, max_size=20))
def test_both_ways_agree_on_random_records(database: Database, records: list[list[str]]) -> None:
    compiled = compile_mappings(TRANSACTION, default_mappings(TRANSACTION))
    payloads = []
    for values in records:
        record: dict[str, Any] = {}
        for step, value in zip(compiled.steps, values, strict=True):
            *parents, name = map(str, step.path)
            inner = record
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[name] = msgspec.Raw(value.encode())
        payloads.append(msgspec.json.encode(record).decode())
    check(database, compiled, payloads)


def test_usual_records_are_mapped_by_sql(database: Database) -> None:
    usual = {
        Type.TEXT: '"a text"',
        Type.MONEY: "450000.50",
        Type.NUMBER: "-111.940016",
        Type.TIMESTAMP: '"2025-03-01T17:04:05.123Z"',
        Type.JSON: '{"a": 1}',
    }
    for kind, value in usual.items():
        assert check(database, to(OF_TYPE[kind]), [f'{{"field": {value}}}', "{}"]) == [False, False]


@pytest.mark.parametrize("on_the_way", ["null", "7", '"text"', "[]", '[{"b": 1}]', "{}", '{"b": null}'])
def test_something_else_than_an_object_on_the_way_is_nothing_to_both(database: Database, on_the_way: str) -> None:
    compiled = to("notes", "a.b")
    assert check(database, compiled, [f'{{"a": {on_the_way}}}']) == [False]


def test_names_and_defaults_are_literal_in_the_statement(database: Database) -> None:
    for odd_name in ("it's", "100%", "%s", "$1", "{field}", "Straße"):
        compiled = to("notes", odd_name, default_value="100% of 'it' {value} %(x)s")
        assert check(database, compiled, [json.dumps({odd_name: "x"}), "{}"]) == [False, False]


@pytest.mark.parametrize("kind", list(Type))
@pytest.mark.parametrize("how", [{}, {"required": True}, {"default_value": "2025-03-01T17:04:05.123Z"}])
def test_both_ways_agree_on_every_rule_result(database: Database, kind: Type, how: dict[str, Any]) -> None:
    if "default_value" in how and kind in (Type.MONEY, Type.NUMBER):
        how = {"default_value": "12.5"}
    compiled = to(OF_TYPE[kind], transformation_rule="$", direction="SOFTPRO_TO_ROI", **how)
    fields = [value for value in DECIDED_BY_SQL + ODD if len(value) < 400 and value not in BEYOND_A_DOUBLE]
    payloads = [f'{{"field": {value}}}' for value in fields] + ["{}"]
    odd = check(database, compiled, payloads, [*results(compiled, payloads)])
    assert not all(odd)
    assert odd[-1] == how.get("required", False)


@pytest.mark.parametrize("how", [{}, {"required": True}, {"default_value": "none"}])
@pytest.mark.parametrize("rule", [None, "$"])
def test_both_ways_agree_on_names_in_custom(database: Database, how: dict[str, Any], rule: str | None) -> None:
    mappings = [
        Mapping(TRANSACTION, "all", "custom"),
        Mapping(TRANSACTION, "field", "custom.it's", "SOFTPRO_TO_ROI", rule, **how),
        Mapping(TRANSACTION, "list[1].name", "custom.second"),
        Mapping(TRANSACTION, "list[0]", "custom.first"),
        Mapping(TRANSACTION, "list[0].name[0]", "property_city"),
    ]
    values = ["null", "0", "false", '""', '"text"', "[1, 2.50]", '{"a": null}']
    bases = ["null", "{}", '{"kept": 1, "it\'s": 2}', "[1]", '"text"', "7"]
    lists = ["null", "[]", '[{}, {"name": "b"}]', '{"1": {"name": "x"}}', '"x"', '[{}, {"name": null}]']
    payloads = [
        f'{{"all": {base}, "field": {value}, "list": {each}}}' for base in bases for value in values for each in lists
    ]
    payloads += ["{}", '{"all": {}}', '{"field": 1}']
    for compiled in (compile_mappings(TRANSACTION, mappings), compile_mappings(TRANSACTION, mappings[1:])):
        ruled = [] if rule is None else [[*results(compiled, payloads)]]
        assert not all(check(database, compiled, payloads, *ruled))


def results(compiled: Compiled, payloads: list[str]) -> Iterator[str | None]:
    """Yield the result of the set's only rule for each payload."""
    asked = (compiled.rule_inputs.evaluation(exact(payload), payload.encode()) for payload in payloads)
    with evaluating(compiled.rule_inputs.rules) as rules:
        for evaluated in rules.evaluate(asked):
            assert not evaluated.failures
            yield evaluated.results[0]


def test_lenient_json_is_left_to_python() -> None:
    assert is_expressible(compile_mappings(TRANSACTION, default_mappings(TRANSACTION)))
    assert is_expressible(to("notes", "buyer[0].notes", transformation_rule="$"))
    assert is_expressible(to("custom.x"))
    assert not is_expressible(to("notes", 'a"b'))
    assert not is_expressible(to("notes", ".".join("a" * 60)))
    assert OF_TYPE.keys() == set(COLUMNS[TRANSACTION].values())
