"""What requests and answers about the quarantine look like."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from softpro.entities import EntityType
from softpro_web.models.base import Model
from softpro_web.models.sync import StartedRun, SyncResult

WITHOUT_NUL = r"^[^\x00]*$"


class RejectionReason(Model):
    column: str | None
    rule: str
    message: str


class CaseOut(Model):
    """A record that was not loaded; see docs/quality.md."""

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
    decision: Literal["EDIT", "DISCARD"]
    by: str
    at: str
    reason: str | None


class CaseDetail(CaseOut):
    """With what SoftPro sent, and what a person made of it."""

    decisions: list[CaseDecision]
    payload_encoding: Literal["json", "base64"]
    payload: Any
    edited_payload: Any


class EditBody(Model):
    """The whole record as it should be."""

    record: dict[str, Any]


class DiscardBody(Model):
    reason: Annotated[str, Field(min_length=1, max_length=2_000, pattern=WITHOUT_NUL)]


class ReplayBody(Model):
    """All open cases of the stream, or these."""

    integration_id: UUID
    entity_type: EntityType
    ids: Annotated[list[UUID], Field(min_length=1, max_length=1_000)] | None = None


class ReplayResult(SyncResult):
    """`left`: cases that stay open as their records could not land."""

    left: int


class ReplayStarted(StartedRun):
    left: int
