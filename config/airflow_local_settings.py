"""Imports Great Expectations and the product once in the process that forks the tasks: they then have them for free."""

import os
import sys
from importlib import import_module

FORKS_TASKS = "worker" if "Celery" in os.environ.get("AIRFLOW__CORE__EXECUTOR", "") else "scheduler"
ALL_THAT_TASKS_USE = (
    "quality.validator",
    "orchestration.holds",
    "orchestration.maintenance",
    "orchestration.reconcile",
    "orchestration.tasks",
    "orchestration.webhooks",
    "sync.compare",
    "sync.reconcile",
)

if FORKS_TASKS in sys.argv:
    from softpro.quality.expectations import great_expectations

    great_expectations()
    for name in ALL_THAT_TASKS_USE:
        import_module(f"softpro.{name}")
