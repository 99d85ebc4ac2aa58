"""Imports Great Expectations once in the scheduler: its LocalExecutor forks the tasks, which then have it for free."""

import os
import sys

if "scheduler" in sys.argv:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    import great_expectations  # noqa: F401
