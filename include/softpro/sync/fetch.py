"""Fetches the records that a run names, one by one, and lands each; no lease, no cursor."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime

from softpro.entities import EntityType
from softpro.errors import (
    CircuitOpen,
    NotConnected,
    RateLimitError,
    RecordNotFound,
    SoftProAPIError,
    SoftProError,
    TokenUnavailable,
)
from softpro.store import logs
from softpro.store.database import Connection
from softpro.store.leases import Run
from softpro.sync.extract import LEAST_PATIENCE_SECONDS
from softpro.sync.land import Batch, land
from softpro.sync.reconcile import ABOUT_ONE
from softpro.vendor.client import Client


@dataclass
class Fetched:
    """What became of the records, by id: `landed`, and `missing`, as SoftPro answered 404, with the time when it was
    asked, by the database's clock; `failed`, an error that says nothing of the others. All others were not asked for,
    as `stopped` says why it is no use, or as the time was over."""

    landed: dict[str, datetime] = field(default_factory=dict)
    missing: dict[str, datetime] = field(default_factory=dict)
    failed: dict[str, SoftProError] = field(default_factory=dict)
    stopped: SoftProError | None = None

    def require(self, entity_type: EntityType) -> None:
        """Raises what kept a record from being landed."""
        if self.missing:
            raise RecordNotFound(f"SoftPro knows no {entity_type.value.lower()} {', '.join(self.missing)}")
        for failed in self.failed.values():
            raise failed
        if self.stopped is not None:
            raise self.stopped


def fetch(connection: Connection, client: Client, run: Run, *, seconds: float, again: bool = False) -> Fetched:
    """Asks for each of the run's records, for at most `seconds` (the one under way is finished), and lands it.

    `again`: it is loaded again although it did not change. A record that can't be read goes to quarantine, and counts
    as landed.
    """
    fetched, deadline = Fetched(), time.monotonic() + seconds
    client.deadline = deadline + LEAST_PATIENCE_SECONDS
    for entity_id in run.records or ():
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
        except ABOUT_ONE as failed:
            fetched.failed[entity_id] = failed
        except SoftProAPIError as refused:
            fetched.stopped = refused
        else:
            land(connection, run, Batch([record], None, client.asked_at, 1, frozenset([entity_id] if again else [])))
            fetched.landed[entity_id] = client.asked_at
        _count(connection, run, client.requests_made - requests_before)
        if fetched.stopped is not None or time.monotonic() >= deadline:
            break
    return fetched


def _count(connection: Connection, run: Run, requests_made: int) -> None:
    logs.add(connection, run.log_id, api_requests=requests_made)
