"""Run the daily maintenance of all organizations. Wiring only."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import dag, task

from softpro.orchestration.shared_tasks import DEFAULT_ARGS, NO_BACKFILL

DOC = """
### Keeps connections alive, and the tables tidy

Runs once a day. The tasks are independent of each other. *Trigger* runs them at once.

| task | does |
|---|---|
| **keep_alive** | refreshes the grants that no sync has refreshed for 7 days (SoftPro ends them after 30) |
| **tidy** | deletes old data: unfinished authorizations, results of checks, settled webhook events and edits |
| **observe** | records fields and codes of newly landed records, for the coverage of the mappings |

**keep_alive** is red if a grant could not be refreshed, and names its organization. The others are still refreshed.
"""


@task
def keep_alive() -> int:
    """Refresh the grants that no sync has refreshed for 7 days. The task fails if one could not be refreshed."""
    from softpro.orchestration import maintenance

    return maintenance.keep_alive()


@task
def tidy() -> int:
    """Delete unfinished authorizations, old results of checks, and settled webhook events and edits."""
    from softpro.orchestration import maintenance

    return maintenance.purge_expired()


@task
def observe() -> int:
    """Record the fields and codes of records that landed since the last run, for every organization."""
    from softpro.orchestration import maintenance

    return maintenance.refresh_field_profiles()


@dag(
    schedule="17 3 * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    allowed_run_types=NO_BACKFILL,
    max_active_runs=1,
    doc_md=DOC,
    tags=["softpro", "maintenance"],
    default_args=DEFAULT_ARGS,
)
def softpro_maintenance() -> None:
    keep_alive()
    tidy()
    observe()


softpro_maintenance()
