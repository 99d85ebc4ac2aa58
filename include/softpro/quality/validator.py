"""Build the Great Expectations validator of a view. Importing this takes seconds: call `great_expectations()` before.

The validator is assembled from its parts. A data source in a data context would need a second engine, only to test the
connection, and would write the whole project configuration three times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from great_expectations import get_context
from great_expectations.core.batch import Batch
from great_expectations.core.batch_spec import SqlAlchemyDatasourceBatchSpec
from great_expectations.data_context import EphemeralDataContext
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.execution_engine import SqlAlchemyExecutionEngine
from great_expectations.validator.validator import Validator
from sqlalchemy import Engine, quoted_name, text

from softpro.db.database import Database

COLUMNS = text(
    """
    select attname as name, format_type(atttypid, atttypmod) as type
    from pg_attribute
    where attrelid = cast(:name as regclass) and attnum > 0
    order by attnum
    """
)


class _ViewInspector:
    """An inspector that reads the columns of a view with one short query.

    SQLAlchemy's own also reads keys, defaults, comments, domains and enums. Composing those statements takes longer
    than a check of a few records.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect = engine.dialect

    def get_pk_constraint(self, table_name: str, schema: str | None = None) -> dict[str, Any]:
        """Return no primary key, because a view has none."""
        return {"constrained_columns": []}

    def get_columns(self, table_name: str, schema: str | None = None) -> list[dict[str, Any]]:
        """Return the names of the columns, and their types as PostgreSQL writes them."""
        with self.engine.connect() as connection:
            return [dict(column) for column in connection.execute(COLUMNS, {"name": table_name}).mappings()]


class _ExecutionEngine(SqlAlchemyExecutionEngine):  # type: ignore[misc]  # it has no types
    def get_inspector(self) -> Any:
        """Return the short inspector."""
        return _ViewInspector(self.engine)


@contextmanager
def validator(database: Database, view: str) -> Iterator[Validator]:
    """Yield a validator of a view in the sessions' search path, which uses one connection at a time."""
    # Every transaction of a check would hold only one statement.
    engine = database.engine(isolation_level="AUTOCOMMIT", use_native_hstore=False)
    try:
        execution = _ExecutionEngine(engine=engine, create_temp_table=False)
        spec = SqlAlchemyDatasourceBatchSpec(table_name=quoted_name(view, quote=None))
        data, markers = execution.get_batch_data_and_markers(spec)
        batch = Batch(data=data, batch_spec=spec, batch_markers=markers)
        yield Validator(execution, data_context=_context(), batches=[batch])
    finally:
        engine.dispose()


@cache
def _context() -> EphemeralDataContext:
    """Return the context of this process. It only switches progress bars off, and nothing is added to it."""
    context = get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context
