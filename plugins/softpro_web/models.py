"""What requests and answers look like: the specification's names, in camelCase."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from softpro.entities import Mode
from softpro.mapping.document import ExpectedVersions, MappingIn, MappingsIn

T = TypeVar("T")


class Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Answer(BaseModel, Generic[T]):
    """`{"success": true, "data": …}`"""

    success: Literal[True] = True
    data: T


class Done(BaseModel):
    """`{"success": true, "message": …}`"""

    success: Literal[True] = True
    message: str


class Meta(Model):
    total: int
    limit: int
    offset: int


class ListAnswer(Answer[list[T]], Generic[T]):
    """`{"success": true, "data": […], "meta": {…}}`"""

    meta: Meta


class ConnectBody(Model):
    organization_id: Annotated[str, Field(min_length=1, max_length=128)]
    environment: Literal["SANDBOX", "PRODUCTION"] = "SANDBOX"
    redirect_path: str | None = Field(None, description="Where in the frontend the browser goes after the callback.")


class AuthorizationUrl(Model):
    authorization_url: str


class Outage(Model):
    """SoftPro failed so often in a row that it is not asked before `nextTryAt`."""

    since: str
    next_try_at: str
    reason: str


class Status(Model):
    id: UUID
    status: str
    environment: str
    last_sync_at: str | None
    sync_enabled: bool
    sync_frequency: int
    last_error_at: str | None
    last_error_message: str | None
    outage: Outage | None


class MappingOut(MappingIn):
    id: UUID
    transformation_rule: Any = None


class MappingsBody(Model):
    """The whole set of each entity type that occurs in it."""

    integration_id: UUID
    mappings: MappingsIn
    expected_versions: ExpectedVersions = None


class SyncBody(Model):
    integration_id: UUID
    mode: Literal[Mode.INCREMENTAL, Mode.DELTA, Mode.FULL] = Mode.INCREMENTAL


class SyncRecordBody(Model):
    integration_id: UUID


class SyncResult(Model):
    success: bool
    entity_type: str
    operation: str
    records_processed: int
    records_succeeded: int
    records_failed: int
    duration: int | None
    started_at: str
    completed_at: str | None


class Started(Model):
    """A run that goes on: look for its log in `sync/logs`."""

    run_id: str
    log_id: UUID
    status: str


class LogOut(Model):
    id: UUID
    sync_type: str
    entity_type: str
    operation: str
    status: str
    records_processed: int
    records_failed: int
    started_at: str
    completed_at: str | None
    duration: int | None
    mode: str
    reason: str | None
    run_id: str
    records_fetched: int
    records_inserted: int
    records_updated: int
    api_requests: int
    mapping_version: int | None
    warnings: dict[str, int]
    error_message: str | None
    request_payload: dict[str, Any] | None
    response_payload: dict[str, Any] | None
    attempts: int
    max_attempts: int
    next_retry_at: str | None
