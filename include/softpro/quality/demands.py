"""A customer's `validationRules` as critical expectations of what a run stages.

Where Great Expectations has one that says the same, that is it; else a query of the rows that break the rule. What a
customer wrote stands in such a query as hexadecimal digits: braces, colons and percent signs mean something on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
from psycopg import sql

from softpro.entities import EntityType
from softpro.quality.suite import ROWS_QUERY, Expectation
from softpro.timestamps import parse_time

CUSTOM, CUSTOM_PREFIX = "custom", "custom."
NUMBER = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?\s*$"
TIMESTAMP = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?$"
"""What PostgreSQL reads as a time beyond that ("tomorrow") is none in a record."""
SHOWN_CHARACTERS, KEPT_CHARACTERS = 100, 1_000
LARGEST_INTEGER = 2**63 - 1

_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True)
class Demand:
    """What a mapping demands: of its `target` (a column, or `custom.<name>`), which holds a `kind` of value (text,
    number, money, timestamp, json), filled from the vendor's `field`; `rules` as a mapping's `validation_rules`."""

    field: str
    target: str
    kind: str
    rules: Mapping[str, Any]


@dataclass(frozen=True)
class _Way:
    """How a rule is judged: by an expectation (type, arguments), or by SQL that is true where a value keeps it.

    `words`: what it demands.
    """

    words: str
    native: tuple[str, dict[str, Any]] | None = None
    kept: sql.Composable | None = None


def expectations(entity_type: EntityType, demands: Sequence[Demand]) -> list[Expectation]:
    """What the demands come to. A missing value keeps all of them; a rule that its column keeps by itself is none."""
    return [made for demand in demands for made in _of_demand(entity_type, demand)]


def value(target: str) -> sql.Composable:
    """The SQL of what a staged row holds for a target: null where that is missing."""
    if target.startswith(CUSTOM_PREFIX):
        return sql.SQL("nullif({} -> {}, 'null')").format(
            sql.Identifier(CUSTOM), _text(target.removeprefix(CUSTOM_PREFIX))
        )
    return sql.Identifier(target)


def _of_demand(entity_type: EntityType, demand: Demand) -> Iterator[Expectation]:
    holds = sql.SQL("({})").format(value(demand.target))
    for rule, wanted in demand.rules.items():
        way = WAYS[rule](wanted, demand.kind, holds)
        if way is None:
            continue
        if way.native:
            type_, arguments = way.native
            kwargs = {"column": demand.target, **arguments}
        else:
            assert way.kept is not None
            query = sql.SQL("select {key} from {batch} where {holds} is not null and ({kept}) is not true").format(
                key=sql.Identifier(entity_type.key), batch=sql.SQL("{batch}"), holds=holds, kept=way.kept
            )
            type_, kwargs = ROWS_QUERY, {"unexpected_rows_query": query.as_string()}
        yield Expectation(
            type=type_,
            kwargs=kwargs,
            severity="critical",
            column=demand.target,
            shown={rule: _brief(wanted)},
            message=f"{demand.field}: validationRules.{rule} demands {way.words}, found ",
            found=holds.as_string(),
        )


def _type(wanted: str, kind: str, holds: sql.Composable) -> _Way | None:
    words = f"type {wanted}"
    if kind == "text":
        return None if wanted == "string" else _Way(words, kept=TEXTS[wanted](holds))
    if kind == "json":
        if wanted == "integer":
            whole = "case when jsonb_typeof({v}) = 'number' then trunc({v}::numeric) = {v}::numeric end"
            return _Way(words, kept=sql.SQL(whole).format(v=holds))
        return _Way(words, kept=sql.SQL("jsonb_typeof({}) = {}").format(holds, _text(wanted)))
    if wanted == "integer":
        return _Way(words, kept=sql.SQL("trunc({v}) = {v}").format(v=holds))
    return None  # numbers and timestamps are what their columns hold


def _enum(wanted: Sequence[Any], kind: str, holds: sql.Composable) -> _Way:
    words = f"one of {_shown(wanted)}"
    if kind == "json":
        values = sql.SQL("array(select jsonb_array_elements({}::jsonb))").format(_text(_encode(wanted).decode()))
        return _Way(words, kept=sql.SQL("{} = any({})").format(holds, values))
    # The first number's type would be that of all of them.
    listed = list(wanted) if kind == "text" else [float(each) for each in wanted]
    return _Way(words, ("expect_column_values_to_be_in_set", {"value_set": listed}))


def _pattern(wanted: str, kind: str, holds: sql.Composable) -> _Way:
    words = f"a match of {wanted}"
    if kind == "json":
        return _Way(words, kept=sql.SQL("{} ~ {}").format(_as_text(holds), _text(wanted)))
    return _Way(words, ("expect_column_values_to_match_regex", {"regex": wanted}))


def _bound(argument: str, words: str, comparison: str) -> Callable[[Any, str, sql.Composable], _Way]:
    def way(wanted: Any, kind: str, holds: sql.Composable) -> _Way:
        demanded = f"{words} {wanted}"
        if kind in ("number", "money"):
            return _Way(demanded, ("expect_column_values_to_be_between", {argument: _number(wanted)}))
        if kind == "timestamp":
            bound = _text(parse_time(wanted).isoformat()) + sql.SQL("::timestamptz")
            return _Way(demanded, kept=sql.SQL(f"{{}} {comparison} {{}}").format(holds, bound))
        read = holds if kind == "text" else _as_text(holds)
        compared = sql.SQL(f"case when {{}} then {{}}::numeric {comparison} {{}} end")
        return _Way(demanded, kept=compared.format(_is_number(read), read, sql.Literal(Decimal(str(wanted)))))

    return way


def _length(wanted: Any, kind: str, holds: sql.Composable) -> _Way:
    given = wanted if isinstance(wanted, Mapping) else {"min": wanted, "max": wanted}
    bounds = {end: given[end] for end in ("min", "max") if end in given}
    if not isinstance(wanted, Mapping):
        words = f"{wanted} characters"
    else:
        words = " and ".join(f"at {'least' if end == 'min' else 'most'} {count}" for end, count in bounds.items())
        words += " characters"
    if kind == "json":
        compared = [
            sql.SQL(f"length({{}}) {'>=' if end == 'min' else '<='} {{}}").format(_as_text(holds), sql.Literal(count))
            for end, count in bounds.items()
        ]
        return _Way(words, kept=sql.SQL(" and ").join(compared))
    arguments = {f"{end}_value": count for end, count in bounds.items()}
    return _Way(words, ("expect_column_value_lengths_to_be_between", arguments))


WAYS: dict[str, Callable[[Any, str, sql.Composable], _Way | None]] = {
    "type": _type,
    "enum": _enum,
    "pattern": _pattern,
    "min": _bound("min_value", "at least", ">="),
    "max": _bound("max_value", "at most", "<="),
    "length": _length,
}
TEXTS: dict[str, Callable[[sql.Composable], sql.Composable]] = {
    "number": lambda read: _is_number(read),
    "integer": lambda read: sql.SQL("case when {} then trunc({v}::numeric) = {v}::numeric end").format(
        _is_number(read), v=read
    ),
    "boolean": lambda read: sql.SQL("{} in ('true', 'false')").format(read),
    "timestamp": lambda read: sql.SQL("{v} ~ {} and pg_input_is_valid({v}, 'timestamptz')").format(
        _text(TIMESTAMP), v=read
    ),
}


def _is_number(read: sql.Composable) -> sql.Composed:
    return sql.SQL("({v} ~ {} and pg_input_is_valid({v}, 'numeric'))").format(_text(NUMBER), v=read)


def _as_text(holds: sql.Composable) -> sql.Composed:
    """A JSON value as it is written; null of an object or a list, which keeps no rule for texts."""
    written = "(case when jsonb_typeof({v}) not in ('object', 'array') then {v} #>> array[]::text[] end)"
    return sql.SQL(written).format(v=holds)


def _text(text: str) -> sql.Composed:
    return sql.SQL("convert_from(decode({}, 'hex'), 'UTF8')").format(sql.Literal(text.encode().hex()))


def _number(given: Any) -> Any:
    """A number as its binding takes it: a whole one of more than 64 bits as a double."""
    return float(given) if isinstance(given, int) and abs(given) > LARGEST_INTEGER else given


def _brief(wanted: Any) -> Any:
    """As results keep it, run by run: a list of a thousand values is cut."""
    written = _encode(wanted).decode()
    return wanted if len(written) <= KEPT_CHARACTERS else f"{written[:KEPT_CHARACTERS]}…"


def _shown(wanted: Sequence[Any]) -> str:
    listed = ", ".join(str(each) for each in wanted)
    return listed if len(listed) <= SHOWN_CHARACTERS else f"{listed[:SHOWN_CHARACTERS]}…"
