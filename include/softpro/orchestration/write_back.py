"""Send edits of `roi` to SoftPro: the task of the DAG `softpro_write_back`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from airflow.sdk.exceptions import AirflowException

from softpro.db import integrations, sync_logs
from softpro.db.access_scopes import Scope
from softpro.entities import SyncType
from softpro.errors import SoftProError
from softpro.orchestration.assets import notify
from softpro.orchestration.authority import Start
from softpro.orchestration.hook import database
from softpro.orchestration.sync import log_summaries, requested_streams
from softpro.runs.push import push, push_due
from softpro.services import Services, services

PUSH_SECONDS = 60.0
"""Maximum duration of a run. The next run sends the rest."""

log = logging.getLogger(__name__)


def write_back(params: Mapping[str, Any], start: Start, outlet_events: Any) -> dict[str, int]:
    """Send the due edits, or those of the form, emit events for changed tables, and return the counts.

    A failure of an organization or a record is stored in its log, and retried automatically.

    Raises:
        AirflowException: The form contradicts itself, names an organization that has no such stream or that the user
            may not see, or the user starts too many runs.
    """
    services_, run_id = services(database()), start.run_id
    with services_.database.connect() as connection:
        scope = start.scope(connection)
    if params["organization"] or params["records"] or scope.organizations is not None:
        _push_requested(services_, params, run_id, scope)
    else:
        push_due(services_, run_id=run_id, seconds=PUSH_SECONDS)
    with services_.database.connect() as connection:
        entries = sync_logs.of_run(connection, run_id)
    log_summaries(entries)
    for entry in entries:
        if entry.records_failed or not entry.succeeded:
            log.warning(
                "%s %s: %s; see `python -m softpro push %s --dry-run`",
                entry.organization_id,
                entry.entity_type.lower(),
                entry.error_message or f"{entry.records_failed} could not be sent",
                entry.organization_id,
            )
    notify(outlet_events, entries)
    return {
        "streams": len(entries),
        "processed": sum(entry.records_processed for entry in entries),
        "failed": sum(entry.records_failed for entry in entries),
        "requests": sum(entry.api_requests for entry in entries),
    }


def _push_requested(services_: Services, params: Mapping[str, Any], run_id: str, scope: Scope) -> None:
    """Push the due edits of the organizations in scope or one of them, or the edits of named records, due or not."""
    if params["records"] and (not params["organization"] or len(params["entity_types"]) != 1):
        raise AirflowException("Records belong to one organization and one entity type: choose these, too")
    with services_.database.connect() as connection:
        streams = requested_streams(connection, params, scope)
        of_streams = {each.integration_id: integrations.get(connection, each.integration_id) for each in streams}
    for stream in streams:
        try:
            push(
                services_,
                of_streams[stream.integration_id],
                stream.entity_type,
                sync_type=SyncType.MANUAL,
                run_id=run_id,
                records=[UUID(record) for record in params["records"]] or None,
                seconds=PUSH_SECONDS,
                patience=0,
            )
        except SoftProError as refused:
            raise AirflowException(str(refused)) from None
