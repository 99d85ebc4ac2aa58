"""Describe the bodies about syncs and their logs."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from softpro.entities import Mode
from softpro_web.models.base import Model


class SyncBody(Model):
    """The integration to sync, and the mode."""

    integration_id: UUID
    mode: Literal[Mode.INCREMENTAL, Mode.DELTA, Mode.FULL] = Mode.INCREMENTAL


class SyncRecordBody(Model):
    """The integration of the record to sync."""

    integration_id: UUID


class SyncResult(Model):
    """The result of a run. `duration` is in milliseconds. `error` says why a run failed, and is null otherwise."""

    success: bool
    entity_type: str
    operation: str
    records_processed: int
    records_succeeded: int
    records_failed: int
    duration: int | None
    started_at: str
    completed_at: str | None
    error: str | None
    log_id: UUID


class StartedRun(Model):
    """A run that is still running. Look for its log in `GET /sync/logs`."""

    run_id: str
    log_id: UUID
    status: str


class LogOut(Model):
    """A sync log. `duration` is in milliseconds."""

    id: UUID
    sync_type: str
    entity_type: str
    operation: str
    status: str
    records_processed: int
    records_failed: int
    started_at: str
    completed_at: str | None
    duration: int | None
    mode: str
    reason: str | None
    run_id: str
    records_fetched: int
    records_inserted: int
    records_updated: int
    api_requests: int
    mapping_version: int | None
    warnings: dict[str, int]
    error_message: str | None
    request_payload: dict[str, Any] | None
    response_payload: dict[str, Any] | None
    attempts: int
    max_attempts: int
    next_retry_at: str | None


class LogDetail(LogOut):
    """A sync log with its integration, its single record if any, and the place of a failure, without values."""

    integration_id: UUID
    organization_id: str
    entity_id: str | None
    roi_entity_id: str | None
    direction: str
    stack_trace: str | None
