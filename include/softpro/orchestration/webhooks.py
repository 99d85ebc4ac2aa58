"""What the task of the webhooks DAG does: it works off the events that wait."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from softpro.db import sync_logs
from softpro.orchestration.assets import notify
from softpro.orchestration.hook import database
from softpro.orchestration.tasks import log_summaries
from softpro.services import services
from softpro.webhooks.worker import drain

DRAIN_SECONDS = 60.0
"""What is due then is the next run's."""

log = logging.getLogger(__name__)


def process(params: Mapping[str, Any], run_id: str, outlet_events: Any) -> dict[str, Any]:
    """Works off what is due, and tells the assets of the tables that changed. Returns the counts.

    What went wrong with an organization or a record stands in its events, and is tried again when they say.
    """
    services_ = services(database())
    drained = drain(services_, run_id=run_id, seconds=DRAIN_SECONDS, organization=params["organization"] or None)
    if drained.busy:
        log.info("Somebody else works on the events")
    with services_.database.connect() as connection:
        entries = sync_logs.of_run(connection, run_id)
    log_summaries(entries)
    if drained.failed:
        log.warning("%d events are FAILED: see `python -m softpro webhooks list`", drained.failed)
    notify(outlet_events, entries)
    return dataclasses.asdict(drained)
