"""Count refused requests of strangers, and write the counts to the database every few seconds.

A stranger can cause many refusals, so they cost no statement each.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock, Timer
from uuid import UUID

from softpro.db import refusals
from softpro.db.database import Database
from softpro.db.refusals import Refusal
from softpro.errors import SoftProError
from softpro_web.database import web_database

WRITE_SECONDS = 5.0
MAX_KEYS = 1_000
"""Kinds and integrations that are counted apart. A stranger chooses the integration that a request names."""

log = logging.getLogger(__name__)


class RefusalCounter:
    """Counts of this process that are not written yet.

    Args:
        database: Returns the database.
    """

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database
        self._lock = Lock()
        self._counts: Counter[tuple[Refusal, UUID | None]] = Counter()
        self._timer: Timer | None = None

    def count(self, kind: Refusal, integration_id: UUID | None = None) -> None:
        """Count a refused request.

        Args:
            kind: The reason.
            integration_id: The integration that the request named.
        """
        self._add({(kind, integration_id): 1})

    def write(self) -> None:
        """Write the counts now. They are kept for another attempt if the database is unavailable."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, counts, self._counts = None, self._counts, Counter()
        if not counts:
            return
        try:
            with self._database().connect() as connection:
                refusals.add(connection, counts)
        except SoftProError as failed:
            log.warning("Refused requests are not counted yet: %s", failed)
            self._add(counts)

    def _add(self, counts: Mapping[tuple[Refusal, UUID | None], int]) -> None:
        """Add counts and schedule a write. The limit of keys also bounds the counts while the database is away."""
        with self._lock:
            for (kind, integration_id), requests in counts.items():
                is_apart = (kind, integration_id) in self._counts or len(self._counts) < MAX_KEYS
                self._counts[kind, integration_id if is_apart else None] += requests
            if self._timer is None:
                self._timer = Timer(WRITE_SECONDS, self.write)
                self._timer.daemon = True
                self._timer.start()


counter = RefusalCounter(web_database)
"""The counter of this process."""
