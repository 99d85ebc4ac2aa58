"""Describe the bodies about conflicts."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, model_validator

from softpro.entities import EntityType
from softpro.writeback.conflicts import ConflictKind, ConflictStatus
from softpro_web.models.base import Model

MAX_AT_ONCE = 200

Side = Literal["SOFTPRO", "ROI"]
Reason = Annotated[str, Field(min_length=1, max_length=1_000, pattern=r"^[^\x00]*$")]
Fields = dict[str, Any]


class DecisionOut(Model):
    """The decision about one field. A null `winner` waits for a user's decision."""

    strategy: str
    winner: Literal["SOFTPRO", "ROI", "MERGED"] | None
    why: str


class ConflictOut(Model):
    """A record whose fields both sides changed, or that one side deleted and the other changed.

    By field, `base` holds the last agreed value, `softpro` and `roi` the value on each side, and `result` the
    resulting value. A `custom.<name>` that did not exist is omitted.
    """

    id: UUID
    integration_id: UUID
    organization_id: str
    entity_type: EntityType
    entity_id: str
    roi_entity_id: UUID
    kind: ConflictKind
    status: ConflictStatus
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
    """A conflict with all details.

    `reversal` holds by field the edit that reverses the decision. A null removes a `custom.<name>`.
    """

    reversal: Fields


class ResolveBody(Model):
    """A decision: one `winner` for all fields, or for each field a side in `fields` or another value in `values`."""

    integration_id: UUID
    winner: Side | None = None
    fields: Annotated[dict[str, Side], Field(max_length=MAX_AT_ONCE)] = Field(default_factory=dict)
    values: Annotated[Fields, Field(max_length=MAX_AT_ONCE)] = Field(default_factory=dict)
    reason: Reason | None = None
    seen_at: str | None = Field(None, max_length=40, description="The conflict's `updatedAt` when the caller read it.")

    @model_validator(mode="after")
    def _is_a_decision(self) -> ResolveBody:
        if (self.winner is None) == (not self.fields and not self.values):
            raise ValueError("give winner, or fields and values")
        if both := sorted(set(self.fields) & set(self.values)):
            raise ValueError(f"give a side or a value, not both: {', '.join(both)}")
        return self


class ResolveManyBody(Model):
    """A decision about several conflicts for one side."""

    integration_id: UUID
    ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_AT_ONCE)]
    winner: Side
    reason: Reason | None = None


class ResolutionOut(Model):
    """The result for one conflict. `error` is the reason why it is unchanged, or null."""

    id: UUID
    error: str | None


class ReverseBody(Model):
    """The integration whose conflict is reversed."""

    integration_id: UUID
