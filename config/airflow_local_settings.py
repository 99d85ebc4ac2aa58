"""Import Great Expectations and the product in the process that forks the tasks, so that each task starts faster."""

import os
import sys
from importlib import import_module

FORKS_TASKS = "worker" if "Celery" in os.environ.get("AIRFLOW__CORE__EXECUTOR", "") else "scheduler"
ALL_THAT_TASKS_USE = (
    "quality.validator",
    "orchestration.holds",
    "orchestration.maintenance",
    "orchestration.reconcile",
    "orchestration.sync",
    "orchestration.webhooks",
    "reconcile.compare",
    "reconcile.confirm_deletes",
)

if FORKS_TASKS in sys.argv:
    from softpro.quality.expectations import great_expectations

    great_expectations()
    for name in ALL_THAT_TASKS_USE:
        import_module(f"softpro.{name}")
