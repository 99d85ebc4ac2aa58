"""What answers about the health of the whole look like."""

from __future__ import annotations

from typing import Literal

from softpro_web.models.base import Model


class Liveness(Model):
    status: Literal["alive"] = "alive"


class SchemaRevision(Model):
    revision: str | None
    newest_revision: str


class EventQueueHealth(Model):
    waiting: int
    oldest_seconds: float | None
    failed: int


class HealthDetail(Model):
    """Counts are null where the database lacks migrations; see docs/http-api.md."""

    status: Literal["HEALTHY", "DEGRADED"]
    problems: list[str]
    database: SchemaRevision
    integrations: dict[str, int] | None
    streams_overdue: int | None
    breakers_open: int | None
    webhook_events: EventQueueHealth | None
    holds_open: int | None
    quarantined: int | None
