"""A mapping set as SQL: records that hold nothing out of the ordinary need not leave PostgreSQL.

A row comes out as `compiled.mapped` would make it, but that no field which nobody maps can make a record unreadable.
Records that hold something odd are told apart, and left to that. Rules are evaluated before, by their own process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from psycopg import sql

from softpro.mapping.columns import CUSTOM_PREFIX, Type
from softpro.mapping.compiler import Compiled
from softpro.mapping.paths import Path
from softpro.mapping.rules.inputs import ALL_OF_IT
from softpro.mapping.step import Step

BOUNDS = {
    # Bytes. What Python refuses for its length or depth, a number of thousands of digits, say, is longer.
    "longest": sql.Literal(1_000),
    "largest": sql.Literal(10**30),
    "decimals": sql.Literal(30),
    "cents": sql.Literal(2),
}


class _Kind(NamedTuple):
    """How a column of a type is filled.

    `text`: its field is found as text, else as jsonb: null where there is nothing. `value` makes of that what the
    column holds, or null; `odd` is whether Python has to look at it. Neither is asked where there is nothing.
    """

    text: bool
    value: str
    odd: str


NUMBER = "case when jsonb_typeof({field}) = 'number' then {field}::numeric end"
KINDS = {
    # An object or a list, or a text that begins like one.
    Type.TEXT: _Kind(
        True, "{field}", "ascii({field}) in (ascii('['), ascii('{{')) or octet_length({field}) > {longest}"
    ),
    Type.JSON: _Kind(False, "{field}", "octet_length({field}::text) > {longest}"),
    Type.NUMBER: _Kind(False, NUMBER, "{value} is null or abs({value}) >= {largest} or scale({value}) > {decimals}"),
    Type.MONEY: _Kind(False, NUMBER, "{value} is null or abs({value}) >= {largest} or scale({value}) > {cents}"),
    # PostgreSQL writes it back as it stands: so it read all of it, and nothing else into it.
    Type.TIMESTAMP: _Kind(
        True,
        "case when pg_input_is_valid({field}, 'timestamptz') then {field}::timestamptz end",
        """
        to_char({value} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') is distinct from {field}
        or octet_length({field}) <> 24  -- the year 10000 is none to Python
        """,
    ),
}
CUSTOM = "custom"
MOST_STEPS = 200
"""PostgreSQL has some four columns for each, in one query, and of these it takes 1,664."""
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


def expressible(compiled: Compiled) -> bool:
    """Whether SQL says what all steps of the set do."""
    steps = (*compiled.steps, *compiled.custom_steps)
    return len(steps) <= MOST_STEPS and all(step.simple for step in steps)


def columns(compiled: Compiled) -> list[str]:
    """The columns that `rows` fills."""
    own = [step.column for step in compiled.steps]
    return [*own, CUSTOM] if compiled.custom_steps and CUSTOM not in own else own


def result(rule: int) -> str:
    """The column of a source of `rows` that holds a rule's result, jsonb; null: it says undefined."""
    return f"rule {rule}"


def read(payload: sql.Composable, path: Path) -> sql.Composed:
    """What a path leads to, as text that is JSON; null where that is nothing."""
    found = _inside(payload, path) if path != ALL_OF_IT else payload
    return sql.SQL("({})::text").format(found)


def rows(compiled: Compiled, source: sql.Composable, kept: Sequence[str]) -> sql.Composed:
    """A query of a row for each one of `source`, a query with a column `payload`, jsonb, and each rule's `result`.

    Its columns: `kept` ones of the source, those that the set fills, and `odd`, true where the row is not to be used.
    Raises ValueError where a step's default is none.
    """
    steps = (*compiled.steps, *compiled.custom_steps)
    parents = {step.path[:-1]: number for number, step in enumerate(steps) if step.rule is None}
    each = [(step, _names(number, step, parents)) for number, step in enumerate(steps)]
    # `offset 0` keeps PostgreSQL from working an expression out anew wherever it is named.
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
        "object": sql.Identifier(_object(parents[step.path[:-1]]) if step.rule is None else result(step.rule)),
        "name": sql.Literal(step.path[-1]),
        "field": sql.Identifier(f"field {number}"),
        "value": sql.Identifier(f"value {number}"),
    }


def _objects(compiled: Compiled, parents: dict[Path, int]) -> Iterator[sql.Composable]:
    """What fields are looked up in: once each, whatever number of them."""
    for path, number in parents.items():
        inside = _inside(sql.Identifier("payload"), path)
        yield sql.SQL("{} as {}").format(inside, sql.Identifier(_object(number)))
    for rule in range(len(compiled.asking.rules)):
        yield sql.Identifier(result(rule))


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
    """Where a step finds what it makes a value of: in an object, or in what its rule came to."""
    if step.rule is not None:
        found, text = "{object}", "{object} #>> '{{}}'"
    elif isinstance(step.path[-1], int):  # to PostgreSQL a scalar is a list of itself
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
    made = {step.column: _value(step, of) for step, of in each}
    custom = [(step.column.removeprefix(CUSTOM_PREFIX), made.pop(step.column)) for step in compiled.custom_steps]
    if custom:
        made[CUSTOM] = _laid_over(made.get(CUSTOM, sql.SQL("null::jsonb")), custom)
    for column in columns(compiled):
        yield sql.SQL("{} as {}").format(made[column], sql.Identifier(column))


def _value(step: Step, of: Names) -> sql.Composable:
    if step.default is None:
        return of["value"]
    default = sql.Literal(step.convert(step.default)) + sql.SQL("::" + step.kind.staged)
    return sql.SQL("coalesce({}, {})").format(of["value"], default)


def _laid_over(base: sql.Composable, custom: Sequence[tuple[str, sql.Composable]]) -> sql.Composable:
    """An object with more names in it; null where there is neither that nor any of them."""
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
