"""The plain steps of a mapping set as SQL: records that hold nothing out of the ordinary need not leave PostgreSQL.

A row comes out as `compiled.apply` would make it, but that no field which nobody maps can make a record unreadable.
Records that hold something odd are told apart, and left to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from psycopg import sql

from softpro.mapping.columns import Type
from softpro.mapping.compiled import Compiled
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

    `field` finds what a path leads to: null where there is nothing. `value` makes of that what the column holds, or
    null; `odd` is whether Python has to look at it. Neither is asked where there is nothing.
    """

    field: str
    value: str
    odd: str


AS_TEXT = "{parent} ->> {name}"
AS_JSON = "nullif({parent} -> {name}, 'null')"
NUMBER = "case when jsonb_typeof({field}) = 'number' then {field}::numeric end"
KINDS = {
    # An object or a list, or a text that begins like one.
    Type.TEXT: _Kind(
        AS_TEXT, "{field}", "ascii({field}) in (ascii('['), ascii('{{')) or octet_length({field}) > {longest}"
    ),
    Type.JSON: _Kind(AS_JSON, "{field}", "octet_length({field}::text) > {longest}"),
    Type.NUMBER: _Kind(AS_JSON, NUMBER, "{value} is null or abs({value}) >= {largest} or scale({value}) > {decimals}"),
    Type.MONEY: _Kind(AS_JSON, NUMBER, "{value} is null or abs({value}) >= {largest} or scale({value}) > {cents}"),
    # PostgreSQL writes it back as it stands: so it read all of it, and nothing else into it.
    Type.TIMESTAMP: _Kind(
        AS_TEXT,
        "case when pg_input_is_valid({field}, 'timestamptz') then {field}::timestamptz end",
        """
        to_char({value} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') is distinct from {field}
        or octet_length({field}) <> 24  -- the year 10000 is none to Python
        """,
    ),
}


def expressible(compiled: Compiled) -> bool:
    """Whether SQL says what all steps of the set do."""
    return all(step.plain for step in compiled.steps) and not compiled.custom_steps


def rows(steps: Sequence[Step], source: sql.Composable, kept: Sequence[str]) -> sql.Composed:
    """A query of a row for each one of `source`, a query with a column `payload`, jsonb.

    Its columns: `kept` ones of the source, those that the steps fill, and `odd`, true where the row is not to be used.
    Raises ValueError where a step's default is none.
    """
    comma, names = sql.SQL(", "), [_names(number, step) for number, step in enumerate(steps)]
    each = list(zip(steps, names, strict=True))
    # `offset 0` keeps PostgreSQL from working an expression out anew wherever it is named.
    return sql.SQL(
        """
        select {kept}, {columns}, {odd} as odd
        from (
            select *, {values}
            from (select {kept}, {fields} from ({source}) s offset 0) f
            offset 0
        ) v
        """
    ).format(
        kept=comma.join(map(sql.Identifier, kept)),
        columns=comma.join(_column(step, of) for step, of in each),
        odd=sql.SQL(" or ").join(odd for step, of in each for odd in _odd(step, of)),
        values=comma.join(_as(KINDS[step.kind].value, of, "value") for step, of in each),
        fields=comma.join(_as(KINDS[step.kind].field, of, "field") for step, of in each),
        source=source,
    )


def _names(number: int, step: Step) -> dict[str, sql.Composable]:
    *parents, name = map(sql.Literal, step.path)
    return {
        **BOUNDS,
        "parent": sql.SQL(" -> ").join([sql.Identifier("payload"), *parents]),
        "name": name,
        "field": sql.Identifier(f"field {number}"),
        "value": sql.Identifier(f"value {number}"),
    }


def _as(expression: str, of: dict[str, sql.Composable], name: str) -> sql.Composed:
    return sql.SQL(f"{expression} as {{{name}}}").format(**of)


def _column(step: Step, of: dict[str, sql.Composable]) -> sql.Composed:
    value = of["value"]
    if step.default is not None:
        default = sql.Literal(step.convert(step.default)) + sql.SQL("::" + step.kind.staged)
        value = sql.SQL("coalesce({}, {})").format(value, default)
    return value + sql.SQL(" as {}").format(sql.Identifier(step.column))


def _odd(step: Step, of: dict[str, sql.Composable]) -> Iterator[sql.Composed]:
    yield sql.SQL("{field} is not null and ({odd})").format(**of, odd=sql.SQL(KINDS[step.kind].odd).format(**of))
    if step.required and step.default is None:
        yield sql.SQL("{field} is null").format(**of)
