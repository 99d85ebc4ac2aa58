"""Describe the bodies about quarantine cases."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from softpro.entities import EntityType
from softpro_web.models.base import Model
from softpro_web.models.sync import StartedRun, SyncResult

WITHOUT_NUL = r"^[^\x00]*$"


class RejectionReason(Model):
    """A reason why a record was not loaded."""

    column: str | None
    rule: str
    message: str


class CaseOut(Model):
    """A quarantine case: a record that was not loaded; see docs/quality.md."""

    id: UUID
    integration_id: UUID
    organization_id: str
    entity_type: str
    entity_id: str | None
    reasons: list[RejectionReason]
    mapping_version: int | None
    log_id: UUID
    created_at: str
    updated_at: str
    resolution: Literal["LOADED", "EDITED", "DISCARDED"] | None
    resolved_at: str | None
    resolved_by: str | None
    resolution_reason: str | None
    edited_by: str | None
    edited_at: str | None


class CaseDecision(Model):
    """A user's decision about a case."""

    decision: Literal["EDIT", "DISCARD"]
    by: str
    at: str
    reason: str | None


class CaseDetail(CaseOut):
    """A case with SoftPro's payload, the user's correction, and the decisions."""

    decisions: list[CaseDecision]
    payload_encoding: Literal["json", "base64"]
    payload: Any
    edited_payload: Any


class EditBody(Model):
    """The complete corrected record."""

    record: dict[str, Any]


class DiscardBody(Model):
    """The reason to close a case without loading its record."""

    reason: Annotated[str, Field(min_length=1, max_length=2_000, pattern=WITHOUT_NUL)]


class ReplayBody(Model):
    """The open cases to replay: those of `ids`, or all of the stream."""

    integration_id: UUID
    entity_type: EntityType
    ids: Annotated[list[UUID], Field(min_length=1, max_length=1_000)] | None = None


class ReplayResult(SyncResult):
    """The result of a replay. `left` counts the cases that stay open because their records could not land."""

    left: int


class ReplayStarted(StartedRun):
    """A replay that is still running. `left` counts the cases whose records could not land."""

    left: int
