"""What requests and answers about mapping sets look like: their versions, what differs, what a change would do."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, model_validator

from softpro.analysis.preview import DEFAULT_RECORDS, MAX_RECORDS
from softpro.entities import EntityType
from softpro.mapping.document import ExpectedVersions, MappingIn, MappingsIn
from softpro.mapping.mapping import Mapping
from softpro_web.models.base import MessageResponse, Model

MAX_VERSION = 2**31 - 1

VersionNumber = Annotated[int, Field(ge=1, le=MAX_VERSION)]


class MappingOut(MappingIn):
    id: UUID
    transformation_rule: Any = None


class MappingsBody(Model):
    """The whole set of each entity type that occurs in it."""

    integration_id: UUID
    mappings: MappingsIn
    expected_versions: ExpectedVersions = None


class VersionOut(Model):
    """`restores`: the earlier version that it is a copy of."""

    entity_type: EntityType
    version: int
    author: str
    created_at: str
    restores: int | None
    mapping_count: int


class VersionDetail(VersionOut):
    mappings: list[dict[str, Any]]


class PropertyChange(Model):
    property: str
    before: Any
    after: Any


class ChangedMapping(Model):
    """A mapping that both sets have; `softproField` is the later one's."""

    entity_type: EntityType
    roi_systems_field: str
    softpro_field: str
    changes: list[PropertyChange]


class DiffOut(Model):
    """From one version of a set to another, by target."""

    entity_type: EntityType
    from_: Annotated[int, Field(alias="from")]
    to: int
    added: list[dict[str, Any]]
    removed: list[dict[str, Any]]
    changed: list[ChangedMapping]


class ActiveVersion(Model):
    """The version of a set that is in force now; not `changed` where it was so before."""

    entity_type: EntityType
    version: int
    changed: bool


class RemapOffer(Model):
    """The run that applies the change to what was fetched already, as Airflow takes it, and of how many records."""

    dag_id: str
    conf: dict[str, Any]
    records: int


class MappingsUpdate(Model):
    """What a change of mappings came to; no remap where nothing changed, or nothing was fetched yet."""

    versions: list[ActiveVersion]
    remap: RemapOffer | None


class MappingsUpdateResponse(MessageResponse):
    """`{"success": true, "message": …, "data": …}`"""

    data: MappingsUpdate


class RollbackBody(Model):
    integration_id: UUID
    entity_type: EntityType
    version: VersionNumber


class RemapBody(Model):
    integration_id: UUID
    entity_type: EntityType


class PreviewBody(Model):
    """The proposed set of one entity type, and which records to show it by: one of the three, or none."""

    integration_id: UUID
    entity_type: EntityType
    mappings: MappingsIn
    entity_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_RECORDS)] | None = None
    record: dict[str, Any] | None = Field(None, description="A record as SoftPro sends it.")
    limit: Annotated[int, Field(ge=1, le=MAX_RECORDS)] | None = Field(
        None, description=f"The latest that were fetched; {DEFAULT_RECORDS} if nothing else is said."
    )

    @model_validator(mode="after")
    def _one_choice(self) -> PreviewBody:
        if sum(choice is not None for choice in (self.entity_ids, self.record, self.limit)) > 1:
            raise ValueError("give one of entityIds, record and limit")
        return self

    def proposed(self) -> list[Mapping]:
        return [entry.mapping() for entry in self.mappings]


class RoundTripOut(Model):
    """What SoftPro would be sent by the rule for that way, beside what it sent itself."""

    original: Any
    sent: Any
    same: bool
    error: str | None


class PreviewField(Model):
    """`before` and `after`: what the target would hold by the set in force, and by the proposed one.

    `back`: of a mapping whose rules go both ways.
    """

    roi_systems_field: str
    softpro_field: str
    before: Any
    after: Any
    changed: bool
    error: str | None
    back: RoundTripOut | None


class PreviewRecord(Model):
    entity_id: str | None
    fields: list[PreviewField]
    reasons: list[dict[str, str | None]]
    would_load: bool


class PreviewSummary(Model):
    records: int
    changed_records: int
    changed_fields: dict[str, int]
    failing: int
    failing_before: int


class PreviewOut(Model):
    """`mappingVersion`: of the set in force, which `before` is made by. `warnings`: what of the set will not work."""

    records: list[PreviewRecord]
    unknown_ids: list[str]
    mapping_version: int | None
    warnings: list[str]
    summary: PreviewSummary
