"""What answers about the mappings' coverage look like."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from softpro.entities import EntityType
from softpro_web.models.base import Model


class CoverageField(Model):
    """A field that records hold; `read`: MAYBE where a rule takes the whole record."""

    path: str
    kinds: list[str]
    records: int
    first_seen_at: str
    last_seen_at: str
    read: Literal["YES", "NO", "MAYBE"]


class MissingField(Model):
    path: str
    last_seen_at: str | None


class NewValue(Model):
    path: str
    value: str
    records: int
    first_seen_at: str


class CoverageOut(Model):
    """An entity type's; see docs/mappings.md."""

    integration_id: UUID
    organization_id: str
    entity_type: EntityType
    records: int
    refreshed_at: str | None
    baseline_at: str | None
    unread: list[CoverageField]
    missing: list[MissingField]
    new_fields: list[CoverageField]
    new_values: list[NewValue]
