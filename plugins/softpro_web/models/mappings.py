"""Describe the bodies about mapping sets, their versions, differences and previews."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, model_validator

from softpro.analysis.preview import DEFAULT_RECORDS, MAX_RECORDS
from softpro.entities import EntityType
from softpro.mapping.document import ExpectedVersions, MappingIn, MappingsIn, Replace
from softpro.mapping.mapping import Mapping
from softpro_web.models.base import MessageResponse, Model

MAX_VERSION = 2**31 - 1

VersionNumber = Annotated[int, Field(ge=1, le=MAX_VERSION)]


class MappingOut(MappingIn):
    """A stored mapping."""

    id: UUID
    transformation_rule: Any = None


class MappingsBody(Model):
    """The mappings to update or add, or with `replace` the complete set of each entity type that it contains."""

    integration_id: UUID
    mappings: MappingsIn
    expected_versions: ExpectedVersions = None
    replace: Replace = False


class VersionOut(Model):
    """A version of a mapping set. `restores` is the earlier version that it copies, or null."""

    entity_type: EntityType
    version: int
    author: str
    created_at: str
    restores: int | None
    mapping_count: int


class VersionDetail(VersionOut):
    """A version with its mappings."""

    mappings: list[dict[str, Any]]


class PropertyChange(Model):
    """A property of a mapping that differs between two versions."""

    property: str
    before: Any
    after: Any


class ChangedMapping(Model):
    """A mapping in both versions that differs. `softproField` is that of the later version."""

    entity_type: EntityType
    roi_systems_field: str
    softpro_field: str
    changes: list[PropertyChange]


class DiffOut(Model):
    """The differences from one version of a set to another, by target."""

    entity_type: EntityType
    from_: Annotated[int, Field(alias="from")]
    to: int
    added: list[dict[str, Any]]
    removed: list[dict[str, Any]]
    changed: list[ChangedMapping]


class ActiveVersion(Model):
    """The version of a set that is in force now. `changed` is false if it was in force before."""

    entity_type: EntityType
    version: int
    changed: bool


class RemapOffer(Model):
    """The Airflow run that would apply the change to records fetched before, and their number."""

    dag_id: str
    conf: dict[str, Any]
    records: int


class MappingsUpdate(Model):
    """The result of a change of mappings. `remap` is null if nothing changed or nothing was fetched yet."""

    versions: list[ActiveVersion]
    added: list[dict[str, Any]]
    removed: list[dict[str, Any]]
    changed: list[ChangedMapping]
    remap: RemapOffer | None


class MappingsUpdateResponse(MessageResponse):
    """The response to a change of mappings: `{"success": true, "message": …, "data": …}`."""

    data: MappingsUpdate


class RollbackBody(Model):
    """The version to go back to."""

    integration_id: UUID
    entity_type: EntityType
    version: VersionNumber


class RemapBody(Model):
    """The stream whose fetched records are mapped again."""

    integration_id: UUID
    entity_type: EntityType


class PreviewBody(Model):
    """Proposed mappings of one entity type, and at most one choice of records: `entityIds`, `record` or `limit`."""

    integration_id: UUID
    entity_type: EntityType
    mappings: MappingsIn
    replace: Replace = False
    entity_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_RECORDS)] | None = None
    record: dict[str, Any] | None = Field(None, description="A record as SoftPro sends it.")
    limit: Annotated[int, Field(ge=1, le=MAX_RECORDS)] | None = Field(
        None, description=f"Number of latest fetched records. Default: {DEFAULT_RECORDS}."
    )

    @model_validator(mode="after")
    def _one_choice(self) -> PreviewBody:
        if sum(choice is not None for choice in (self.entity_ids, self.record, self.limit)) > 1:
            raise ValueError("give only one of entityIds, record and limit")
        return self

    def proposed(self) -> list[Mapping]:
        """Return the proposed mappings."""
        return [entry.mapping() for entry in self.mappings]


class RoundTripOut(Model):
    """The value that the `toSoftPro` rule would send, compared with SoftPro's original value."""

    original: Any
    sent: Any
    same: bool
    error: str | None


class PreviewField(Model):
    """A target's value by the set in force (`before`) and by the proposed set (`after`).

    `back` is null unless the mapping has rules for both ways.
    """

    roi_systems_field: str
    softpro_field: str
    before: Any
    after: Any
    changed: bool
    error: str | None
    back: RoundTripOut | None


class PreviewRecord(Model):
    """The effect of the proposed set on one record. `reasons` are those that a quarantine case would have."""

    entity_id: str | None
    fields: list[PreviewField]
    reasons: list[dict[str, str | None]]
    would_load: bool


class PreviewSummary(Model):
    """The totals of a preview. `changedFields` counts the records in which each target changes."""

    records: int
    changed_records: int
    changed_fields: dict[str, int]
    failing: int
    failing_before: int


class PreviewOut(Model):
    """The effect of a proposed set on records.

    `mappingVersion` is the version in force, used for `before`. `warnings` name parts of the set that will not work.
    """

    records: list[PreviewRecord]
    unknown_ids: list[str]
    mapping_version: int | None
    warnings: list[str]
    summary: PreviewSummary
