"""Describe the bodies about write-back."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from softpro.entities import EntityType
from softpro.writeback.dry_run import PushState
from softpro_web.models.base import Model


class FieldChange(Model):
    """A SoftPro field that a push would change, with its present value (null: none) and the new one."""

    softpro_field: str
    from_: Annotated[Any, Field(alias="from")]
    to: Any


class EditOut(Model):
    """The last edit of a field. `field` is null if the record was created or deleted."""

    field: str | None
    operation: str
    changed_by: str
    changed_at: str


class OutboxRecord(Model):
    """An edited record: the changes that a push would send, or in `why` the reason to wait."""

    entity_type: EntityType
    roi_entity_id: UUID
    entity_id: str | None
    operation: str
    state: PushState
    why: str | None
    next_attempt_at: str | None
    attempts: int
    fields: list[FieldChange]
    edits: list[EditOut]
    changed_by: str
    changed_at: str


class PushBody(Model):
    """The integration whose changes are sent."""

    integration_id: UUID


class DeletesDecisionBody(Model):
    """A decision about waiting deletes. `deletes` is the number that the user has seen."""

    integration_id: UUID
    entity_type: EntityType
    deletes: Annotated[int, Field(ge=1, le=1_000_000_000)]


class DeletesDecisionOut(Model):
    """The number of deletes that were approved or withdrawn."""

    deletes: int
