"""Fetch the records that a run names, one by one, and land each, without a lease or a cursor."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime

from softpro.db import sync_logs
from softpro.db.database import Connection
from softpro.db.leases import Run
from softpro.entities import EntityType
from softpro.errors import (
    RECORD_ERRORS,
    CircuitOpen,
    ForbiddenError,
    NotConnected,
    RateLimitError,
    RecordNotFound,
    SoftProAPIError,
    SoftProError,
    TokenUnavailable,
)
from softpro.softpro360.client import Client
from softpro.sync.extract import MIN_RETRY_SECONDS
from softpro.sync.land import Batch, land

MAX_IDS_SHOWN = 3
"""The number of ids that a message names."""


@dataclass
class Fetched:
    """The outcome of each record, by id. Times are when it was requested, by the database's clock.

    Attributes:
        landed: records that were landed.
        missing: records for which SoftPro returned 404.
        failed: records with an error that does not concern the others.
        left: records that were not requested, because of `stopped` or because the time was over.
        stopped: the error after which further requests are pointless.
    """

    landed: dict[str, datetime] = field(default_factory=dict)
    missing: dict[str, datetime] = field(default_factory=dict)
    failed: dict[str, SoftProError] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    stopped: SoftProError | None = None

    def problem(self, entity_type: EntityType) -> str | None:
        """Return why some records were not landed, for a user; None where all were."""
        kind = entity_type.value.lower()
        problems = [f"{entity_id}: {failed}" for entity_id, failed in self.failed.items()]
        if self.missing:
            problems.insert(0, f"SoftPro has no {kind} {', '.join(self.missing)}")
        if self.left:
            why = str(self.stopped) if self.stopped is not None else "the time ran out"
            first = ", ".join(self.left[:MAX_IDS_SHOWN])
            problems.append(f"{len(self.left)} were not requested, {first} first: {why}")
        return "; ".join(problems) or None


def fetch(connection: Connection, client: Client, run: Run, *, seconds: float, again: bool = False) -> Fetched:
    """Request each of the run's records, for at most `seconds`, and land it.

    A request in progress when the time ends is finished. An unreadable record goes to quarantine and counts as landed.

    Args:
        again: load the records again even if they did not change.
    """
    fetched, deadline = Fetched(), time.monotonic() + seconds
    client.deadline = deadline + MIN_RETRY_SECONDS
    asked: list[str] = []
    for entity_id in run.records or ():
        asked.append(entity_id)
        requests_before = client.requests_made
        try:
            record = client.record(run.entity_type, entity_id)
        except RecordNotFound as missing:
            if missing.error_code:
                fetched.missing[entity_id] = client.asked_at
            else:  # a proxy's page: SoftPro's own 404 carries an error code
                fetched.failed[entity_id] = missing
        except (RateLimitError, CircuitOpen, TokenUnavailable, NotConnected) as stopped:
            fetched.stopped = stopped
        except (*RECORD_ERRORS, ForbiddenError) as failed:
            fetched.failed[entity_id] = failed
        except SoftProAPIError as refused:
            fetched.stopped = refused
        else:
            land(connection, run, Batch([record], None, client.asked_at, 1, frozenset([entity_id] if again else [])))
            fetched.landed[entity_id] = client.asked_at
        _count(connection, run, client.requests_made - requests_before)
        if fetched.stopped is not None or time.monotonic() >= deadline:
            break
    unasked = set(run.records or ()) - set(asked)
    fetched.left = [each for each in run.records or () if each in unasked]
    if fetched.stopped is not None:
        fetched.left.insert(0, asked[-1])
    return fetched


def _count(connection: Connection, run: Run, requests_made: int) -> None:
    sync_logs.add_counts(connection, run.log_id, api_requests=requests_made)
