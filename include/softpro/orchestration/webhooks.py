"""Process webhook events: the task of the DAG `softpro_webhooks`."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from softpro.db import sync_logs
from softpro.orchestration.assets import notify
from softpro.orchestration.hook import database
from softpro.orchestration.sync import log_summaries
from softpro.services import services
from softpro.webhooks.worker import drain

DRAIN_SECONDS = 60.0
"""Maximum duration of a run. The next run processes the rest."""

log = logging.getLogger(__name__)


def process(params: Mapping[str, Any], run_id: str, outlet_events: Any) -> dict[str, Any]:
    """Process the due events, emit events for changed tables, and return the counts.

    A failure of an organization or a record is stored in its events, which name the time of the retry.
    """
    services_ = services(database())
    drained = drain(services_, run_id=run_id, seconds=DRAIN_SECONDS, organization=params["organization"] or None)
    if drained.busy:
        log.info("Another process is already processing events")
    with services_.database.connect() as connection:
        entries = sync_logs.of_run(connection, run_id)
    log_summaries(entries)
    if drained.failed:
        log.warning("%d events are FAILED: see `python -m softpro webhooks list`", drained.failed)
    notify(outlet_events, entries)
    return dataclasses.asdict(drained)
