"""What requests and answers about conflicts look like."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, model_validator

from softpro.entities import EntityType
from softpro.writeback.conflicts import Kind, Status
from softpro_web.models.base import Model

MAX_AT_ONCE = 200

Side = Literal["SOFTPRO", "ROI"]
Reason = Annotated[str, Field(min_length=1, max_length=1_000, pattern=r"^[^\x00]*$")]
Fields = dict[str, Any]


class DecisionOut(Model):
    """How a field was decided; no winner: it waits for a person."""

    strategy: str
    winner: Literal["SOFTPRO", "ROI", "MERGED"] | None
    why: str


class ConflictOut(Model):
    """By field: `base` is what both sides last agreed on, `softpro` and `roi` what each had, `result` what stands.

    A `custom.<name>` that was not there is left out.
    """

    id: UUID
    integration_id: UUID
    organization_id: str
    entity_type: EntityType
    entity_id: str
    roi_entity_id: UUID
    kind: Kind
    status: Status
    base: Fields
    softpro: Fields
    roi: Fields
    result: Fields | None
    decisions: dict[str, DecisionOut]
    softpro_updated_at: str | None
    roi_changed_at: str | None
    roi_changed_by: str | None
    resolved_by: str | None
    resolved_at: str | None
    reason: str | None
    reversed_by: str | None
    reversed_at: str | None
    log_id: UUID | None
    created_at: str
    updated_at: str


class ConflictDetail(ConflictOut):
    """`reversal`: the edit that takes the decision back, ready-made; null takes a `custom.<name>` away."""

    reversal: Fields


class ResolveBody(Model):
    """One `winner` for all fields, or for each a side in `fields`, or another value in `values`."""

    integration_id: UUID
    winner: Side | None = None
    fields: Annotated[dict[str, Side], Field(max_length=MAX_AT_ONCE)] = Field(default_factory=dict)
    values: Annotated[Fields, Field(max_length=MAX_AT_ONCE)] = Field(default_factory=dict)
    reason: Reason | None = None
    seen_at: str | None = Field(None, max_length=40, description="The conflict's `updatedAt` as it was looked at.")

    @model_validator(mode="after")
    def _is_a_decision(self) -> ResolveBody:
        if (self.winner is None) == (not self.fields and not self.values):
            raise ValueError("give one winner, or fields and values")
        if both := sorted(set(self.fields) & set(self.values)):
            raise ValueError(f"either a side or a value: {', '.join(both)}")
        return self


class ResolveManyBody(Model):
    integration_id: UUID
    ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_AT_ONCE)]
    winner: Side
    reason: Reason | None = None


class ResolutionOut(Model):
    """`error`: why it is still as it was."""

    id: UUID
    error: str | None


class ReverseBody(Model):
    integration_id: UUID
