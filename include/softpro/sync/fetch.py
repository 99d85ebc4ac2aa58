"""Fetches the records that a run names, one by one, and lands each; no lease, no cursor."""

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

SHOWN = 3
"""Ids that a message names."""


@dataclass
class Fetched:
    """What became of the records, by id: `landed`, and `missing`, as SoftPro answered 404, with the time when it was
    asked, by the database's clock; `failed`, an error that says nothing of the others. `left` were not asked for, as
    `stopped` says why it is no use, or as the time was over."""

    landed: dict[str, datetime] = field(default_factory=dict)
    missing: dict[str, datetime] = field(default_factory=dict)
    failed: dict[str, SoftProError] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    stopped: SoftProError | None = None

    def problem(self, entity_type: EntityType) -> str | None:
        """What kept records from being landed, for a person; None where all were."""
        kind = entity_type.value.lower()
        said = [f"{entity_id}: {failed}" for entity_id, failed in self.failed.items()]
        if self.missing:
            said.insert(0, f"SoftPro knows no {kind} {', '.join(self.missing)}")
        if self.left:
            why = str(self.stopped) if self.stopped is not None else "the time was over"
            said.append(f"{len(self.left)} were not asked for, {', '.join(self.left[:SHOWN])} first: {why}")
        return "; ".join(said) or None


def fetch(connection: Connection, client: Client, run: Run, *, seconds: float, again: bool = False) -> Fetched:
    """Asks for each of the run's records, for at most `seconds` (the one under way is finished), and lands it.

    `again`: it is loaded again although it did not change. A record that can't be read goes to quarantine, and counts
    as landed.
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
            else:  # a proxy's page: SoftPro itself says why, by a code
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
