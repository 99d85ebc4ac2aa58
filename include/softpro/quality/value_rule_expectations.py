"""A customer's `validationRules` as critical expectations of what a run stages.

Each is a query of the rows that break the rule. What a customer wrote stands in it as hexadecimal digits alone: braces,
colons, percent signs and quotes mean something on its way, and Great Expectations writes queries of its own as Python
writes texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    """How a rule is judged: `kept` is SQL that is true where a value keeps it. `words`: what it demands."""

    words: str
    kept: sql.Composable


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
        query = sql.SQL("select {key} from {batch} where {holds} is not null and ({kept}) is not true").format(
            key=sql.Identifier(entity_type.key), batch=sql.SQL("{batch}"), holds=holds, kept=way.kept
        )
        yield Expectation(
            type=ROWS_QUERY,
            kwargs={"unexpected_rows_query": query.as_string()},
            severity="critical",
            column=demand.target,
            shown={rule: _brief(wanted)},
            message=f"{demand.field}: validationRules.{rule} demands {way.words}, found ",
            found=holds.as_string(),
            label=f"validationRules.{rule}",
        )


def _type(wanted: str, kind: str, holds: sql.Composable) -> _Way | None:
    words = f"type {wanted}"
    if kind == "text":
        return None if wanted == "string" else _Way(words, TEXTS[wanted](holds))
    if kind == "json":
        if wanted == "integer":
            whole = "case when jsonb_typeof({v}) = 'number' then trunc({v}::numeric) = {v}::numeric end"
            return _Way(words, sql.SQL(whole).format(v=holds))
        return _Way(words, sql.SQL("jsonb_typeof({}) = {}").format(holds, _text(wanted)))
    if wanted == "integer":
        return _Way(words, sql.SQL("trunc({v}) = {v}").format(v=holds))
    return None  # numbers and timestamps are what their columns hold


def _enum(wanted: Sequence[Any], kind: str, holds: sql.Composable) -> _Way:
    words, listed = f"one of {_shown(wanted)}", _text(_encode(wanted).decode())
    values = sql.SQL(ELEMENTS.get(kind, "select jsonb_array_elements({}::jsonb)::numeric")).format(listed)
    return _Way(words, sql.SQL("{} = any(array({}))").format(holds, values))


def _pattern(wanted: str, kind: str, holds: sql.Composable) -> _Way:
    words = f"a match of {wanted}"
    return _Way(words, sql.SQL("{} ~ {}").format(_as_text(holds, kind), _text(wanted)))


def _bound(words: str, comparison: str) -> Callable[[Any, str, sql.Composable], _Way]:
    def way(wanted: Any, kind: str, holds: sql.Composable) -> _Way:
        demanded = f"{words} {wanted}"
        if kind == "timestamp":
            bound = _text(parse_time(wanted).isoformat()) + sql.SQL("::timestamptz")
            return _Way(demanded, sql.SQL(f"{{}} {comparison} {{}}").format(holds, bound))
        bound = _text(str(wanted)) + sql.SQL("::numeric")
        if kind in ("number", "money"):
            return _Way(demanded, sql.SQL(f"{{}} {comparison} {{}}").format(holds, bound))
        read = _as_text(holds, kind)
        compared = sql.SQL(f"case when {{}} then {{}}::numeric {comparison} {{}} end")
        return _Way(demanded, compared.format(_is_number(read), read, bound))

    return way


def _length(wanted: Any, kind: str, holds: sql.Composable) -> _Way:
    given = wanted if isinstance(wanted, Mapping) else {"min": wanted, "max": wanted}
    bounds = {end: given[end] for end in ("min", "max") if end in given}
    if not isinstance(wanted, Mapping):
        words = f"{wanted} characters"
    else:
        words = " and ".join(f"at {'least' if end == 'min' else 'most'} {count}" for end, count in bounds.items())
        words += " characters"
    compared = [
        sql.SQL(f"length({{}}) {'>=' if end == 'min' else '<='} {{}}").format(_as_text(holds, kind), sql.Literal(count))
        for end, count in bounds.items()
    ]
    return _Way(words, sql.SQL(" and ").join(compared))


WAYS: dict[str, Callable[[Any, str, sql.Composable], _Way | None]] = {
    "type": _type,
    "enum": _enum,
    "pattern": _pattern,
    "min": _bound("at least", ">="),
    "max": _bound("at most", "<="),
    "length": _length,
}
ELEMENTS = {
    "json": "select jsonb_array_elements({}::jsonb)",
    "text": "select jsonb_array_elements_text({}::jsonb)",
}
"""A list's values as what a column holds; of any other kind these are numbers."""
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


def _as_text(holds: sql.Composable, kind: str) -> sql.Composable:
    """A text, or a JSON value as it is written; null of an object or a list, which keeps no rule for texts."""
    if kind == "text":
        return holds
    written = "(case when jsonb_typeof({v}) not in ('object', 'array') then {v} #>> array[]::text[] end)"
    return sql.SQL(written).format(v=holds)


def _text(text: str) -> sql.Composed:
    return sql.SQL("convert_from(decode({}, 'hex'), 'UTF8')").format(sql.Literal(text.encode().hex()))


def _brief(wanted: Any) -> Any:
    """As results keep it, run by run: a list of a thousand values is cut."""
    written = _encode(wanted).decode()
    return wanted if len(written) <= KEPT_CHARACTERS else f"{written[:KEPT_CHARACTERS]}…"


def _shown(wanted: Sequence[Any]) -> str:
    listed = ", ".join(str(each) for each in wanted)
    return listed if len(listed) <= SHOWN_CHARACTERS else f"{listed[:SHOWN_CHARACTERS]}…"
