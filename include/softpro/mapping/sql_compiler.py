"""Compile a mapping set to SQL, so that ordinary records need not leave PostgreSQL.

A row equals the result of `compiler.map_records`, with one exception: a field that is not mapped can't make a record
unreadable. Unusual records are flagged and left to Python. A separate process evaluates the rules before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from psycopg import sql

from softpro.mapping.columns import CUSTOM_PREFIX, Type
from softpro.mapping.compiler import Compiled
from softpro.mapping.paths import Path
from softpro.mapping.rules.inputs import WHOLE_RECORD
from softpro.mapping.step import Step

BOUNDS = {
    # Bytes. Values that Python refuses for their length or depth are longer.
    "longest": sql.Literal(1_000),
    "largest": sql.Literal(10**30),
    "decimals": sql.Literal(30),
    "cents": sql.Literal(2),
}


class _Kind(NamedTuple):
    """SQL that fills a column of one type.

    Attributes:
        text: the field is read as text, otherwise as jsonb.
        value: the column's value, or null. Evaluated only if the field has a value.
        odd: true if Python has to map the record. Evaluated only if the field has a value.
    """

    text: bool
    value: str
    odd: str


NUMBER = "case when jsonb_typeof({field}) = 'number' then {field}::numeric end"
KINDS = {
    # Odd: an object or a list, or a text that begins like one.
    Type.TEXT: _Kind(
        True, "{field}", "ascii({field}) in (ascii('['), ascii('{{')) or octet_length({field}) > {longest}"
    ),
    Type.JSON: _Kind(False, "{field}", "octet_length({field}::text) > {longest}"),
    Type.NUMBER: _Kind(False, NUMBER, "{value} is null or abs({value}) >= {largest} or scale({value}) > {decimals}"),
    Type.MONEY: _Kind(False, NUMBER, "{value} is null or abs({value}) >= {largest} or scale({value}) > {cents}"),
    # PostgreSQL prints the same text again, so it understood the whole value.
    Type.TIMESTAMP: _Kind(
        True,
        "case when pg_input_is_valid({field}, 'timestamptz') then {field}::timestamptz end",
        """
        to_char({value} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') is distinct from {field}
        or octet_length({field}) <> 24  -- Python has no year 10000
        """,
    ),
}
CUSTOM = "custom"
MAX_STEPS = 200
"""Each step needs about four columns in one query, and PostgreSQL allows 1,664."""
ROWS = """
select {kept}, {columns}, {odd} as odd
from (
    select *, {values}
    from (
        select {kept}, {fields}
        from (select {kept}, {objects} from ({source}) s offset 0) o
        offset 0
    ) f
    offset 0
) v
"""
COMMA = sql.SQL(", ")


def is_expressible(compiled: Compiled) -> bool:
    """Return whether SQL can express all steps of the set."""
    steps = (*compiled.steps, *compiled.custom_steps)
    return len(steps) <= MAX_STEPS and all(step.simple for step in steps)


def columns(compiled: Compiled) -> list[str]:
    """Return the columns that `mapped_rows` fills."""
    own = [step.column for step in compiled.steps]
    return [*own, CUSTOM] if compiled.custom_steps and CUSTOM not in own else own


def rule_column(rule: int) -> str:
    """Return the source column that holds a rule's result as jsonb, null if the result is undefined."""
    return f"rule {rule}"


def json_at(payload: sql.Composable, path: Path) -> sql.Composed:
    """Return SQL for the value at a path as JSON text, null if it is missing."""
    found = _inside(payload, path) if path != WHOLE_RECORD else payload
    return sql.SQL("({})::text").format(found)


def mapped_rows(compiled: Compiled, source: sql.Composable, kept: Sequence[str]) -> sql.Composed:
    """Return a query that maps each row of a source query.

    The query returns the `kept` columns, the columns that the set fills, and `odd`, which is true for unusable rows.

    Args:
        compiled: the compiled set.
        source: a query with the column `payload`, jsonb, and a column for each rule, named by `rule_column`.
        kept: columns of the source to return.

    Raises:
        ValueError: a default can't be converted.
    """
    steps = (*compiled.steps, *compiled.custom_steps)
    parents = {step.path[:-1]: number for number, step in enumerate(steps) if step.rule is None}
    each = [(step, _names(number, step, parents)) for number, step in enumerate(steps)]
    # `offset 0` keeps PostgreSQL from evaluating an expression again wherever it is used.
    return sql.SQL(ROWS).format(
        kept=COMMA.join(map(sql.Identifier, kept)),
        columns=COMMA.join(_columns(compiled, each)),
        odd=sql.SQL(" or ").join(odd for step, of in each for odd in _odd(compiled, step, of)),
        values=COMMA.join(_as(KINDS[step.kind].value, of, "value") for step, of in each),
        fields=COMMA.join(_as(_field(step), of, "field") for step, of in each),
        objects=COMMA.join(_objects(compiled, parents)),
        source=source,
    )


Names = dict[str, sql.Composable]


def _names(number: int, step: Step, parents: dict[Path, int]) -> Names:
    return {
        **BOUNDS,
        "object": sql.Identifier(_object(parents[step.path[:-1]]) if step.rule is None else rule_column(step.rule)),
        "name": sql.Literal(step.path[-1]),
        "field": sql.Identifier(f"field {number}"),
        "value": sql.Identifier(f"value {number}"),
    }


def _objects(compiled: Compiled, parents: dict[Path, int]) -> Iterator[sql.Composable]:
    """Yield each parent object of a field once, and each rule's column."""
    for path, number in parents.items():
        inside = _inside(sql.Identifier("payload"), path)
        yield sql.SQL("{} as {}").format(inside, sql.Identifier(_object(number)))
    for rule in range(len(compiled.rule_inputs.rules)):
        yield sql.Identifier(rule_column(rule))


def _object(number: int) -> str:
    return f"object {number}"


def _inside(payload: sql.Composable, path: Path) -> sql.Composable:
    for step in path:
        inside = (
            "case when jsonb_typeof({0}) = 'array' then {0} -> {1} end" if isinstance(step, int) else "({0} -> {1})"
        )
        payload = sql.SQL(inside).format(payload, sql.Literal(step))
    return payload


def _field(step: Step) -> str:
    """Return SQL for the input of a step: a field in an object, or the result of its rule."""
    if step.rule is not None:
        found, text = "{object}", "{object} #>> '{{}}'"
    elif isinstance(step.path[-1], int):  # PostgreSQL treats a scalar as a list of one item
        found, text = (
            f"case when jsonb_typeof({{object}}) = 'array' then {{object}} {arrow} {{name}} end"
            for arrow in ("->", "->>")
        )
    else:
        found, text = "{object} -> {name}", "{object} ->> {name}"
    if KINDS[step.kind].text:
        return text
    return found if _takes_null(step) else f"nullif({found}, 'null')"


def _takes_null(step: Step) -> bool:
    return step.custom and step.default is None and not step.required


def _as(expression: str, of: Names, name: str) -> sql.Composed:
    return sql.SQL(f"{expression} as {{{name}}}").format(**of)


def _columns(compiled: Compiled, each: Sequence[tuple[Step, Names]]) -> Iterator[sql.Composed]:
    values = {step.column: _value(step, of) for step, of in each}
    custom = [(step.column.removeprefix(CUSTOM_PREFIX), values.pop(step.column)) for step in compiled.custom_steps]
    if custom:
        values[CUSTOM] = _overlay(values.get(CUSTOM, sql.SQL("null::jsonb")), custom)
    for column in columns(compiled):
        yield sql.SQL("{} as {}").format(values[column], sql.Identifier(column))


def _value(step: Step, of: Names) -> sql.Composable:
    if step.default is None:
        return of["value"]
    default = sql.Literal(step.convert(step.default)) + sql.SQL("::" + step.kind.staged)
    return sql.SQL("coalesce({}, {})").format(of["value"], default)


def _overlay(base: sql.Composable, custom: Sequence[tuple[str, sql.Composable]]) -> sql.Composable:
    """Return SQL that adds names to an object; null if there is neither an object nor a value."""
    values = [value for _, value in custom]
    more = [
        sql.SQL("case when {1} is null then '{{}}' else jsonb_build_object({0}, {1}) end").format(
            sql.Literal(name), value
        )
        for name, value in custom
    ]
    return sql.SQL("case when coalesce({all}) is not null then coalesce({base}, '{{}}') || {more} end").format(
        all=COMMA.join([base, *values]), base=base, more=sql.SQL(" || ").join(more)
    )


def _odd(compiled: Compiled, step: Step, of: Names) -> Iterator[sql.Composed]:
    yield sql.SQL("{field} is not null and ({odd})").format(**of, odd=sql.SQL(KINDS[step.kind].odd).format(**of))
    if step.required and step.default is None:
        yield sql.SQL("{field} is null").format(**of)
    if step.column == CUSTOM and compiled.custom_steps:
        yield sql.SQL("jsonb_typeof({field}) <> 'object'").format(**of)
