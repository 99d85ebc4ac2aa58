"""Describe the bodies about webhooks."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from softpro.webhooks.events import EventEntityType
from softpro_web.models.base import Model


class EventOut(Model):
    """A webhook event. A `priority` of 0 comes first."""

    id: UUID
    integration_id: UUID
    organization_id: str
    event_id: str
    event_type: str
    entity_type: str
    entity_id: str
    status: str
    outcome: str | None
    priority: int
    deliveries: int
    attempts: int
    max_attempts: int
    next_retry_at: str | None
    record_updated_at: str | None
    processing_error: str | None
    received_at: str
    processed_at: str | None
    log_id: UUID | None
    decisions: list[dict[str, Any]]


class EventDetail(EventOut):
    """A webhook event with its headers and SoftPro's payload."""

    headers: dict[str, str] | None
    payload: Any


class RetryBody(Model):
    """The integration of the event to retry."""

    integration_id: UUID


class RetryManyBody(Model):
    """The events to retry: those of `ids`, or all FAILED events, optionally of one entity type."""

    integration_id: UUID
    ids: Annotated[list[UUID], Field(min_length=1, max_length=1_000)] | None = None
    entity_type: EventEntityType | None = None


class RetriedCount(Model):
    """The number of events that are retried."""

    retried: int


class SecondsToSettle(Model):
    """Percentiles of the seconds from receipt to settling."""

    p50: float | None
    p95: float | None


class RefusedDeliveries(Model):
    """Deliveries to an integration's address that were refused in the last 24 hours, and the time of the last one."""

    signatures: int
    timestamps: int
    last_at: str | None


class StatsOut(Model):
    """Counts and times of an integration's webhook events."""

    by_status: dict[str, int]
    by_type: dict[str, int]
    by_day: dict[str, int]
    oldest_waiting_seconds: float | None
    repeated_deliveries: int
    seconds_to_settle: SecondsToSettle
    refused_last_day: RefusedDeliveries


class WebhookConfig(Model):
    """The webhook settings of an integration, and the receiver's address and limits."""

    webhooks_enabled: bool
    receiver_url: str
    secrets: Annotated[int, Field(description="The number of secrets that are set; never the secrets themselves.")]
    replay_window_seconds: int
    largest_body_bytes: int
    max_attempts: int


class WebhookConfigBody(Model):
    """The webhook switch of an integration."""

    integration_id: UUID
    webhooks_enabled: bool
