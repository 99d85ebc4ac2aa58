"""What has to be done now and then, whoever is due: once a day. Wiring only."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import dag, task

from softpro.orchestration.steps import DEFAULTS

DOC = """
### Keeps connections alive, and the tables tidy

Once a day. The tasks do not wait for each other. *Trigger* runs them at once.

| task | does |
|---|---|
| **keep_alive** | refreshes the grants that no sync has refreshed for 7 days: SoftPro ends them after 30 |
| **tidy** | deletes what is too old: unfinished authorizations, results of checks, settled webhook events and edits |
| **observe** | notes which fields and codes the records hold that landed since, for the coverage of the mappings |

**keep_alive** is red where a grant could not be refreshed, and says whose; the others are done.
"""


@task
def keep_alive() -> int:
    """Refreshes the grants that no sync has refreshed for 7 days; red where one could not be."""
    from softpro.orchestration import maintenance

    return maintenance.keep_alive()


@task
def tidy() -> int:
    """Deletes unfinished authorizations, old results of checks, and settled webhook events and edits."""
    from softpro.orchestration import maintenance

    return maintenance.tidy()


@task
def observe() -> int:
    """Notes which fields and codes the records hold that landed since the last time, of every organization."""
    from softpro.orchestration import maintenance

    return maintenance.observe()


@dag(
    schedule="17 3 * * *",
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    doc_md=DOC,
    tags=["softpro", "maintenance"],
    default_args=DEFAULTS,
)
def softpro_maintenance() -> None:
    keep_alive()
    tidy()
    observe()


softpro_maintenance()
