"""Run reconciles step by step and read their outcome."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from softpro.db.database import Database
from softpro.db.integrations import Integration
from softpro.delete_limit import DeleteLimit
from softpro.entities import EntityType, SyncType
from softpro.reconcile.audits import Audit
from softpro.runs import reconcile as runs_reconcile
from softpro.services import Services

from .databases import execute, rows
from .sandbox import Sandbox

LIMIT = DeleteLimit(5, 500)
MANUAL = SyncType.MANUAL
DELETED = "select softpro_order_id as id from roi.transactions where deleted_at is not null order by 1"
IN_RAW = "select entity_id as id from raw.records where deleted_at is not null order by 1"


def sweep(services: Services, integration: Integration, run_id: str = "first", **how: Any) -> Audit:
    return runs_reconcile.sweep(
        services, integration, EntityType.TRANSACTION, sync_type=MANUAL, run_id=run_id, **{"seconds": 600, **how}
    )


def confirm(services: Services, audit: Audit, limit: DeleteLimit = LIMIT) -> Audit:
    """Run the first confirmation and then the second one, as if the lag had passed."""
    audit = runs_reconcile.confirm(services, audit, limit, sync_type=MANUAL, seconds=2)
    return confirm_again(services, audit, limit) if audit.status == "CONFIRMING" else audit


def confirm_again(services: Services, audit: Audit, limit: DeleteLimit = LIMIT) -> Audit:
    execute(services.database, "update softpro.audit_differences set missing_at = missing_at - interval '6 seconds'")
    return runs_reconcile.confirm(services, audit, limit, sync_type=MANUAL, seconds=5)


def delete(services: Services, audit: Audit) -> Audit:
    return runs_reconcile.delete(services, audit, sync_type=MANUAL)


def reconcile(
    services: Services, integration: Integration, run_id: str | None = None, limit: DeleteLimit = LIMIT
) -> Audit:
    """Run all steps without the wait."""
    audit = confirm(services, sweep(services, integration, run_id or f"test__{uuid4()}"), limit)
    return delete(services, audit) if audit.status == "DELETING" else audit


def nonzero_counts(audit: Audit) -> dict[str, int]:
    """Return the counts that are not 0."""
    return {name: count for name, count in audit.counts().items() if count}


def ids(database: Database, query: str) -> list[str]:
    return [row["id"] for row in rows(database, query)]


def records_as_bytes(sandbox: Sandbox, organization: str) -> dict[str, bytes]:
    """Return the vendor's records byte for byte, by id."""
    return {json.loads(line)["orderId"]: line for line in sandbox.export(organization)}


def differences(database: Database) -> dict[str, tuple[str, str]]:
    """Return kind and outcome of each difference of the newest audit, by record id."""
    query = """
        select entity_id, kind, outcome from softpro.audit_differences
        where audit_id = (select id from softpro.audits order by started_at desc limit 1)
    """
    return {row["entity_id"]: (row["kind"], row["outcome"]) for row in rows(database, query)}
