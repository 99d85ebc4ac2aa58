"""Sync an organization's transactions through the product's own entry point."""

from __future__ import annotations

from uuid import uuid4

from softpro.db import integrations
from softpro.db.database import open_database
from softpro.entities import EntityType, Mode, SyncType
from softpro.runs import sync as runs_sync
from softpro.services import services
from softpro.settings import DatabaseSettings, load

from ..measured_job import Job, run


def sync(job: Job) -> None:
    """Sync to the end of the list.

    Raises:
        SystemExit: The run failed; the message is the log's error.
    """
    made = services(open_database(*load(DatabaseSettings)))
    with made.database.connect() as connection:
        integration = integrations.find(connection, job["organization"])
    log = runs_sync.sync(
        made,
        integration,
        EntityType.TRANSACTION,
        mode=Mode.INCREMENTAL,
        sync_type=SyncType.MANUAL,
        run_id=f"benchmark__{uuid4()}",
    )
    if not log.succeeded:
        raise SystemExit(log.error_message)


if __name__ == "__main__":
    run(sync)
