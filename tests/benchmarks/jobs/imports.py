"""Import what any program needs that speaks HTTP and PostgreSQL, and do nothing with it."""

from __future__ import annotations

import psycopg  # noqa: F401
import requests  # noqa: F401
import sqlalchemy  # noqa: F401

from ..measured_job import run

if __name__ == "__main__":
    run(lambda job: None)
