"""What requests and answers about changes on their way to SoftPro look like."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from softpro.entities import EntityType
from softpro.writeback.dry_run import State
from softpro_web.models.base import Model


class FieldChange(Model):
    """One field of SoftPro's that a push would send: what it holds (null: nothing), and what it is to be."""

    softpro_field: str
    from_: Annotated[Any, Field(alias="from")]
    to: Any


class EditOut(Model):
    """The last change of a field; no field where the record was made or deleted."""

    field: str | None
    operation: str
    changed_by: str
    changed_at: str


class OutboxRecord(Model):
    """A record that was changed here: what would be sent of it, or why nothing is."""

    entity_type: EntityType
    roi_entity_id: UUID
    entity_id: str | None
    operation: str
    state: State
    why: str | None
    next_attempt_at: str | None
    attempts: int
    fields: list[FieldChange]
    edits: list[EditOut]
    changed_by: str
    changed_at: str


class PushBody(Model):
    integration_id: UUID


class DeletesDecisionBody(Model):
    """`deletes`: how many wait, as the person has seen."""

    integration_id: UUID
    entity_type: EntityType
    deletes: Annotated[int, Field(ge=1, le=1_000_000_000)]


class DeletesDecisionOut(Model):
    deletes: int
