"""Fetch every page and discard it, to measure what the sandbox can serve."""

from __future__ import annotations

from ..measured_job import Job, run
from .transaction_pages import pages


def fetch(job: Job) -> None:
    """Fetch every page."""
    for _ in pages(job):
        pass


if __name__ == "__main__":
    run(fetch)
