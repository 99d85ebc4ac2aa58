"""Map all landed transactions of an organization: what a remap does between mark and check."""

from __future__ import annotations

import time
from dataclasses import replace
from uuid import uuid4

from softpro.db import integrations
from softpro.db.database import open_database
from softpro.entities import EntityType, Mode, SyncType
from softpro.mapping import repository
from softpro.mapping.defaults import default_mappings
from softpro.mapping.mapping import Mapping
from softpro.runs import pipeline
from softpro.settings import DatabaseSettings, load

from ..measured_job import Job, run

RULES = {
    "status": '$ ? $lookup({"OPENED": "open", "IN_PROGRESS": "open", "CLOSED": "closed"}, $) ?? "other"',
    "transaction_number": '"SP-" & $',
    "property_state": "$ ? $uppercase($trim($))",
    "notes": '$record.orderNumber & ": " & ($ ?: "none")',
    "custom.parties": "$count($record.buyer) + $count($record.seller)",
}


def five_rules() -> list[Mapping]:
    """Return the default set with rules in five of its mappings."""
    mappings = default_mappings(EntityType.TRANSACTION)
    mappings.append(Mapping(EntityType.TRANSACTION, "orderId", "custom.parties"))
    return [
        replace(mapping, transformation_rule=RULES.get(mapping.roi_systems_field), direction="SOFTPRO_TO_ROI")
        for mapping in mappings
    ]


def map_all(job: Job) -> float:
    """Map all records by the job's set (`default` or `rules`) into staging and discard the result.

    Returns the seconds of the mapping alone.

    Raises:
        SystemExit: Not every record was mapped.
    """
    database = open_database(*load(DatabaseSettings))
    wanted = five_rules() if job["set"] == "rules" else default_mappings(EntityType.TRANSACTION)
    with database.connect() as connection:
        integration = integrations.find(connection, job["organization"])
        repository.replace(connection, integration.id, integration.organization_id, wanted, "benchmark")
    run_ = pipeline.begin(
        database,
        integration,
        EntityType.TRANSACTION,
        mode=Mode.REMAP,
        sync_type=SyncType.MANUAL,
        run_id=f"benchmark__{uuid4()}",
    )
    pipeline.mark(database, run_)
    with database.connect() as connection:
        connection.execute("checkpoint")
    began = time.perf_counter()
    transformed = pipeline.transform(database, run_)
    seconds = time.perf_counter() - began
    pipeline.fail(database, run_, KeyboardInterrupt())
    if (transformed.staged, transformed.rejected) != (job["transactions"], 0):
        raise SystemExit(f"{transformed} of {job['transactions']} transactions")
    return seconds


if __name__ == "__main__":
    run(map_all)
