"""Turn a customer's `validationRules` into critical expectations about the staged records.

Each expectation is a query of the rows that break the rule. It contains the customer's text only as hexadecimal digits,
because braces, colons, percent signs and quotes have a meaning on the way to PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from softpro import json_codec
from softpro.entities import EntityType
from softpro.quality.suite import ROWS_QUERY, Expectation
from softpro.timestamps import parse_time

CUSTOM, CUSTOM_PREFIX = "custom", "custom."
NUMBER = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?\s*$"
TIMESTAMP = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?$"
"""PostgreSQL accepts more texts as times ("tomorrow"), but a record must not contain them."""
SHOWN_CHARACTERS, KEPT_CHARACTERS = 100, 1_000


@dataclass(frozen=True)
class Demand:
    """The validation rules of a mapping.

    Attributes:
        field: the vendor's field.
        target: a column, or `custom.<name>`.
        kind: the type of the target: text, number, money, timestamp or json.
        rules: the mapping's `validation_rules`.
    """

    field: str
    target: str
    kind: str
    rules: Mapping[str, Any]


@dataclass(frozen=True)
class _Check:
    """How a rule is checked: `kept` is SQL that is true for a valid value, `words` says what the rule demands."""

    words: str
    kept: sql.Composable


def expectations(entity_type: EntityType, demands: Sequence[Demand]) -> list[Expectation]:
    """Build the expectations, except for rules that the column's type implies. A missing value satisfies every rule."""
    return [each for demand in demands for each in _of_demand(entity_type, demand)]


def target_value(target: str) -> sql.Composable:
    """Return SQL for the value that a staged row has for a target, null if it is missing."""
    if target.startswith(CUSTOM_PREFIX):
        return sql.SQL("nullif({} -> {}, 'null')").format(
            sql.Identifier(CUSTOM), _text(target.removeprefix(CUSTOM_PREFIX))
        )
    return sql.Identifier(target)


def _of_demand(entity_type: EntityType, demand: Demand) -> Iterator[Expectation]:
    holds = sql.SQL("({})").format(target_value(demand.target))
    for rule, wanted in demand.rules.items():
        check = CHECKS[rule](wanted, demand.kind, holds)
        if check is None:
            continue
        query = sql.SQL("select {key} from {batch} where {holds} is not null and ({kept}) is not true").format(
            key=sql.Identifier(entity_type.key), batch=sql.SQL("{batch}"), holds=holds, kept=check.kept
        )
        yield Expectation(
            type=ROWS_QUERY,
            kwargs={"unexpected_rows_query": query.as_string()},
            severity="critical",
            column=demand.target,
            shown={rule: _brief(wanted)},
            message=f"{demand.field}: validationRules.{rule} demands {check.words}, found ",
            found=holds.as_string(),
            label=f"validationRules.{rule}",
        )


def _type(wanted: str, kind: str, holds: sql.Composable) -> _Check | None:
    words = f"type {wanted}"
    if kind == "text":
        return None if wanted == "string" else _Check(words, TEXTS[wanted](holds))
    if kind == "json":
        if wanted == "integer":
            whole = "case when jsonb_typeof({v}) = 'number' then trunc({v}::numeric) = {v}::numeric end"
            return _Check(words, sql.SQL(whole).format(v=holds))
        return _Check(words, sql.SQL("jsonb_typeof({}) = {}").format(holds, _text(wanted)))
    if wanted == "integer":
        return _Check(words, sql.SQL("trunc({v}) = {v}").format(v=holds))
    return None  # the column's type already ensures it


def _enum(wanted: Sequence[Any], kind: str, holds: sql.Composable) -> _Check:
    words, listed = f"one of {_shown(wanted)}", _text(json_codec.encode(wanted).decode())
    values = sql.SQL(ELEMENTS.get(kind, "select jsonb_array_elements({}::jsonb)::numeric")).format(listed)
    return _Check(words, sql.SQL("{} = any(array({}))").format(holds, values))


def _pattern(wanted: str, kind: str, holds: sql.Composable) -> _Check:
    words = f"a match of {wanted}"
    return _Check(words, sql.SQL("{} ~ {}").format(_as_text(holds, kind), _text(wanted)))


def _bound(words: str, comparison: str) -> Callable[[Any, str, sql.Composable], _Check]:
    def check(wanted: Any, kind: str, holds: sql.Composable) -> _Check:
        demanded = f"{words} {wanted}"
        if kind == "timestamp":
            bound = _text(parse_time(wanted).isoformat()) + sql.SQL("::timestamptz")
            return _Check(demanded, sql.SQL(f"{{}} {comparison} {{}}").format(holds, bound))
        bound = _text(str(wanted)) + sql.SQL("::numeric")
        if kind in ("number", "money"):
            return _Check(demanded, sql.SQL(f"{{}} {comparison} {{}}").format(holds, bound))
        read = _as_text(holds, kind)
        compared = sql.SQL(f"case when {{}} then {{}}::numeric {comparison} {{}} end")
        return _Check(demanded, compared.format(_is_number(read), read, bound))

    return check


def _length(wanted: Any, kind: str, holds: sql.Composable) -> _Check:
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
    return _Check(words, sql.SQL(" and ").join(compared))


CHECKS: dict[str, Callable[[Any, str, sql.Composable], _Check | None]] = {
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
"""SQL for the values of a list, by the column's type. Other types use numbers."""
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
    """Return SQL for a text or a JSON scalar as text. Objects and lists become null and so break every text rule."""
    if kind == "text":
        return holds
    written = "(case when jsonb_typeof({v}) not in ('object', 'array') then {v} #>> array[]::text[] end)"
    return sql.SQL(written).format(v=holds)


def _text(text: str) -> sql.Composed:
    return sql.SQL("convert_from(decode({}, 'hex'), 'UTF8')").format(sql.Literal(text.encode().hex()))


def _brief(wanted: Any) -> Any:
    """Return the rule as results keep it in every run: a long list is cut."""
    written = json_codec.encode(wanted).decode()
    return wanted if len(written) <= KEPT_CHARACTERS else f"{written[:KEPT_CHARACTERS]}…"


def _shown(wanted: Sequence[Any]) -> str:
    listed = ", ".join(str(each) for each in wanted)
    return listed if len(listed) <= SHOWN_CHARACTERS else f"{listed[:SHOWN_CHARACTERS]}…"
