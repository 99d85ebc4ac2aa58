"""What PostgreSQL makes of a record by a mapping set is what Python makes of it; what is odd is left to Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import set_json_loads

from softpro.entities import EntityType
from softpro.mapping.columns import COLUMNS, Type
from softpro.mapping.compiled import Compiled, apply, compile_mappings
from softpro.mapping.defaults import default_mappings
from softpro.mapping.expressions import expressible, rows
from softpro.mapping.mapping import Mapping
from softpro.store.database import Database

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
    """One for all of these tests: they write nothing."""
    with server.fresh() as fresh:
        yield fresh


exact = partial(json.loads, parse_float=Decimal)


def comparable(value: Any, kind: Type) -> Any:
    """A value of Python's as psycopg reads PostgreSQL's."""
    return exact(value) if kind is Type.JSON and value is not None else value


def check(database: Database, compiled: Compiled, payloads: list[str]) -> list[bool]:
    """Asserts that both ways agree on all records that SQL decides. Returns which it leaves to Python."""
    source = sql.SQL(
        "select place, payload::jsonb as payload from unnest({}::text[]) with ordinality u(payload, place)"
    ).format(sql.Literal(payloads))
    mapped = rows(compiled.steps, source, ["place"])
    query = sql.SQL(
        "select r.*, convert_to(s.payload::text, 'UTF8') as payload from ({}) r join ({}) s using (place) where not odd"
    ).format(mapped, source)
    with database.connect() as connection:
        set_json_loads(exact, connection)
        decided = connection.execute(query).fetchall()
    for row in decided:
        values, reasons = apply(compiled, row["payload"])
        by_python = dict(zip(compiled.columns, values, strict=True))
        assert reasons == [], row
        for step in compiled.steps:
            expected = comparable(by_python[step.column], step.kind)
            assert row[step.column] == expected, (step.column, row)
            assert str(row[step.column]) == str(expected) or step.kind is Type.JSON  # the scale of a number, too
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
    assert odd[0] == odd[-1] == how.get("required", False)  # nothing is odd only where something is required


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


def test_what_the_vendor_usually_sends_is_decided_by_sql(database: Database) -> None:
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


def test_names_and_defaults_stand_in_the_statement_as_they_are(database: Database) -> None:
    for odd_name in ("it's", "100%", "%s", "$1", "{field}", "Straße"):
        compiled = to("notes", odd_name, default_value="100% of 'it' {value} %(x)s")
        assert check(database, compiled, [json.dumps({odd_name: "x"}), "{}"]) == [False, False]


def test_a_rule_a_place_in_a_list_and_a_custom_target_are_left_to_python() -> None:
    assert expressible(compile_mappings(TRANSACTION, default_mappings(TRANSACTION)))
    assert not expressible(to("notes", transformation_rule="$"))
    assert not expressible(to("notes", "buyer[0].notes"))
    assert not expressible(to("custom.x"))
    assert OF_TYPE.keys() == set(COLUMNS[TRANSACTION].values())
