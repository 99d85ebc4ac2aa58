"""Describe the bodies about the state of the system."""

from __future__ import annotations

from typing import Literal

from softpro_web.models.base import Model


class Liveness(Model):
    """The proof that the server responds."""

    status: Literal["alive"] = "alive"


class SchemaRevision(Model):
    """The revision of the database schema, and the newest one that this release knows."""

    revision: str | None
    newest_revision: str


class EventQueueHealth(Model):
    """Counts of webhook events. `oldestSeconds` is the age of the oldest waiting event."""

    waiting: int
    oldest_seconds: float | None
    failed: int


class RefusedRequests(Model):
    """Requests without a login that were refused in the last 24 hours, and the time of the last one."""

    signatures: int
    timestamps: int
    states: int
    last_at: str | None


class HealthDetail(Model):
    """The state of the system. Counts are null if the database lacks migrations; see docs/http-api.md."""

    status: Literal["HEALTHY", "DEGRADED"]
    problems: list[str]
    database: SchemaRevision
    integrations: dict[str, int] | None
    streams_overdue: int | None
    breakers_open: int | None
    webhook_events: EventQueueHealth | None
    holds_open: int | None
    quarantined: int | None
    refused_last_day: RefusedRequests | None
