"""Describe the bodies about held batches."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from softpro_web.models.base import Model


class FindingOut(Model):
    """A reason to hold the batch. `column` is null if it concerns the whole table."""

    column: str | None
    rule: str
    message: str


class HoldOut(Model):
    """A batch of records that was held because it looks wrong as a whole."""

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
    """An approval. The reason is optional."""

    integration_id: UUID
    reason: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None


class RejectBody(Model):
    """A rejection, with its reason."""

    integration_id: UUID
    reason: Annotated[str, Field(min_length=1, max_length=1_000)]
