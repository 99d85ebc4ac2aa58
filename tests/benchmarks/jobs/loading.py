"""Load the same records with the outbox's triggers enabled or disabled."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

from softpro.db import integrations, outbox
from softpro.db.database import Database, open_database
from softpro.db.integrations import Integration
from softpro.entities import EntityType, Mode, SyncType
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.runs import pipeline
from softpro.settings import DatabaseSettings, load

from ...support.product import quality_settings
from ..measured_job import Job, run

KIND = EntityType.TRANSACTION


def load_all(job: Job) -> float:
    """Load all landed records and return the seconds of the load alone.

    With `update` in the job it loads over rows that all change, else into an empty table. With `triggers` the triggers
    are enabled.

    Raises:
        SystemExit: The number of rows is wrong, or the outbox is not empty.
    """
    database = open_database(*load(DatabaseSettings))
    with database.connect() as connection:
        integration = integrations.find(connection, job["organization"])
    if job["update"]:
        _swap(database, integration)
    else:
        with database.connect() as connection, connection.transaction():
            connection.execute(outbox.MARK_LOADING)
            connection.execute("truncate roi.transactions, roi.transactions_history")
    run_ = pipeline.begin(
        database, integration, KIND, mode=Mode.REMAP, sync_type=SyncType.MANUAL, run_id=f"benchmark__{uuid4()}"
    )
    pipeline.mark(database, run_)
    pipeline.transform(database, run_)
    pipeline.check(database, run_, quality_settings())
    with database.connect() as connection:
        connection.execute("checkpoint")
    with _triggers(database, job["triggers"]):
        began = time.perf_counter()
        loaded = pipeline.load(database, run_)
        seconds = time.perf_counter() - began
    pipeline.finish(database, run_)
    with database.connect() as connection:
        row = connection.execute("select count(*) as edits from softpro.outbox").fetchone()
    if row is None or row["edits"] or (loaded.updated if job["update"] else loaded.inserted) != job["transactions"]:
        raise SystemExit(f"{loaded} of {job['transactions']} transactions, {row} in the outbox")
    return seconds


def _swap(database: Database, integration: Integration) -> None:
    """Swap the fields of two columns in the current mapping set, so that a remap changes every row."""
    with database.connect() as connection:
        current = repository.current(connection, integration.stream(KIND)).mappings
        fields = {each.roi_systems_field: each.softpro_field for each in current}
        swapped = {"transaction_type": fields["transaction_number"], "transaction_number": fields["transaction_type"]}
        mappings = [
            replace(each, softpro_field=swapped.get(each.roi_systems_field, each.softpro_field))
            for each in current or default_mappings(KIND)
        ]
        repository.replace(connection, integration.id, integration.organization_id, mappings, "benchmark")


@contextmanager
def _triggers(database: Database, there: bool) -> Iterator[None]:
    """Disable the triggers during the context unless they are wanted."""
    with database.connect() as connection:
        if not there:
            connection.execute("alter table roi.transactions disable trigger user")
        yield
        connection.execute("alter table roi.transactions enable trigger user")


if __name__ == "__main__":
    run(load_all)
