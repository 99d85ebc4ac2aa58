"""Describe the bodies about the coverage of mappings."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from softpro.entities import EntityType
from softpro_web.models.base import Model


class CoverageBody(Model):
    """The stream, or all streams of an integration, whose coverage is refreshed."""

    integration_id: UUID
    entity_type: EntityType | None = None


class CoverageField(Model):
    """A field of SoftPro's records. `read` is MAYBE if a rule reads the whole record."""

    path: str
    kinds: list[str]
    records: int
    first_seen_at: str
    last_seen_at: str
    read: Literal["YES", "NO", "MAYBE"]


class MissingField(Model):
    """A mapped field that records lack. A null `lastSeenAt` means never."""

    path: str
    last_seen_at: str | None


class NewValue(Model):
    """A code that is new in records."""

    path: str
    value: str
    records: int
    first_seen_at: str


class CoverageOut(Model):
    """The coverage of one entity type; see docs/mappings.md."""

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
