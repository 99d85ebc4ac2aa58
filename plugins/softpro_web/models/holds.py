"""What requests and answers about held batches look like."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from softpro_web.models.base import Model


class FindingOut(Model):
    """Something that is wrong with the batch as a whole; no column where it is about the table."""

    column: str | None
    rule: str
    message: str


class HoldOut(Model):
    id: UUID
    integration_id: UUID
    organization_id: str
    entity_type: str
    log_id: UUID
    status: str
    findings: list[FindingOut]
    records: int
    created_at: str
    updated_at: str
    decided_by: str | None
    decided_at: str | None
    reason: str | None


class ApproveBody(Model):
    integration_id: UUID
    reason: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None


class RejectBody(Model):
    integration_id: UUID
    reason: Annotated[str, Field(min_length=1, max_length=1_000)]
