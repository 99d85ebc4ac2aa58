"""Read one row, one value or one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString, TypeVar

from psycopg import sql
from psycopg.rows import DictRow, class_row

from softpro.db.database import Connection

Query = LiteralString | sql.Composable
Parameters = Sequence[object] | Mapping[str, object] | None
T = TypeVar("T")

DELETE_BATCH_ROWS = 10_000


def one(connection: Connection, query: Query, parameters: Parameters = None) -> DictRow:
    """Return the first row of a query that always yields one.

    Raises:
        LookupError: The query yielded no row, which its author ruled out.
    """
    row = connection.execute(_composed(query), parameters).fetchone()
    if row is None:
        raise LookupError("The query returned no row")
    return row


def value(connection: Connection, query: Query, parameters: Parameters = None) -> Any:
    """Return the only column of the first row of a query that always yields one. Raises LookupError."""
    (found,) = one(connection, query, parameters).values()
    return found


def now(connection: Connection) -> datetime:
    """Return the time by the database's clock, also within a transaction."""
    found: datetime = value(connection, "select clock_timestamp()")
    return found


def page(
    connection: Connection,
    model: type[T],
    *,
    columns: sql.Composable,
    source: Query,
    order: LiteralString,
    parameters: Mapping[str, object],
    limit: int,
    offset: int,
) -> tuple[list[T], int]:
    """Return one page of rows and the number of rows on all pages.

    Args:
        model: the dataclass that a row becomes.
        columns: the selected columns, named like the dataclass's fields.
        source: what follows `from`, conditions included.
        order: what follows `order by`; it must be unambiguous, or pages overlap.
        parameters: the parameters of `source`, which has none named `limit` or `offset`.
    """
    source = _composed(source)
    rows = connection.cursor(row_factory=class_row(model)).execute(
        sql.SQL("select {} from {} order by {} limit %(limit)s offset %(offset)s").format(
            columns, source, sql.SQL(order)
        ),
        {**parameters, "limit": limit, "offset": offset},
    )
    total: int = value(connection, sql.SQL("select count(*) from {}").format(source), parameters)
    return rows.fetchall(), total


def delete_in_batches(connection: Connection, statement: Query, parameters: Mapping[str, object]) -> int:
    """Repeat a `delete` of at most `%(limit)s` rows until no more are left, and return the number of deleted rows.

    Call it in autocommit, so that each batch is a transaction.
    """
    total = 0
    while True:
        deleted = connection.execute(_composed(statement), {**parameters, "limit": DELETE_BATCH_ROWS}).rowcount
        total += deleted
        if deleted < DELETE_BATCH_ROWS:
            return total


def _composed(query: Query) -> sql.SQL | sql.Composed:
    if isinstance(query, str):
        return sql.SQL(query)
    return query if isinstance(query, sql.SQL) else sql.Composed([query])
