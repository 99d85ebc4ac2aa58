"""Imports Great Expectations once in the process that forks the tasks: they then have it for free."""

import os
import sys

FORKS_TASKS = "worker" if "Celery" in os.environ.get("AIRFLOW__CORE__EXECUTOR", "") else "scheduler"

if FORKS_TASKS in sys.argv:
    from softpro.quality.expectations import great_expectations

    great_expectations()
