"""Describe the bodies about an integration's settings, and about confinement to organizations."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, SecretStr, model_validator

from softpro.db.access_scopes import MAX_ORGANIZATIONS, MAX_SUBJECT_CHARACTERS, SubjectKind
from softpro.db.integration_settings import MAX_SYNC_SECONDS, MIN_SYNC_SECONDS, ConflictStrategy
from softpro.writeback.merge_strategies import is_overridable
from softpro_web.models.base import Model

MAX_OVERRIDES = 200

Environment = Literal["SANDBOX", "PRODUCTION"]


class SettingsOut(Model):
    """The settings of an integration. `syncFrequency` is in seconds.

    `nextEnvironment` and `nextClientId` are those for which the next connection asks consent, if they differ.
    """

    id: UUID
    organization_id: str
    sync_enabled: bool
    sync_frequency: int
    sync_transactions: bool
    sync_contacts: bool
    sync_documents: bool
    webhooks_enabled: bool
    conflict_strategy: ConflictStrategy
    conflict_overrides: dict[str, ConflictStrategy]
    push_deletes: bool
    environment: Environment
    client_id: str
    next_environment: Environment | None
    next_client_id: str | None


class SettingsBody(Model):
    """The settings to change. Environment and client take effect with the next consent."""

    sync_enabled: bool = Field(False)
    sync_frequency: int = Field(
        MIN_SYNC_SECONDS, ge=MIN_SYNC_SECONDS, le=MAX_SYNC_SECONDS, description="Seconds between two syncs."
    )
    sync_transactions: bool = Field(False)
    sync_contacts: bool = Field(False)
    sync_documents: bool = Field(False, description="Must be false, because documents are not synced yet.")
    webhooks_enabled: bool = Field(False)
    conflict_strategy: ConflictStrategy = Field(ConflictStrategy.SOFTPRO_WINS)
    conflict_overrides: Annotated[dict[str, ConflictStrategy], Field(max_length=MAX_OVERRIDES)] = Field(
        default_factory=dict,
        description="Replaces all overrides. Keys: an entity type or a field, such as `contacts` or `contacts.notes`.",
    )
    push_deletes: bool = Field(False, description="Send deletes in roi.transactions to SoftPro.")
    environment: Environment | None = Field(None, description="null: unchanged.")
    client_id: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        None, description="The organization's own OAuth client, with `clientSecret`. null: SOFTPRO_CLIENT_ID."
    )
    client_secret: Annotated[SecretStr, Field(min_length=1, max_length=2_000)] | None = None

    @model_validator(mode="after")
    def _can_be(self) -> SettingsBody:
        sent = self.model_fields_set
        if not sent:
            raise ValueError("give at least one setting")
        if wrong := [name for name in self.conflict_overrides if not is_overridable(name)]:
            raise ValueError(
                f"conflictOverrides: {', '.join(wrong)} is not transactions, contacts, or one of their columns that "
                "can be mapped, such as transactions.notes or contacts.custom.vip"
            )
        if self.sync_documents:
            raise ValueError("syncDocuments: must be false, because documents are not synced yet")
        if ("client_id" in sent) != ("client_secret" in sent) or (self.client_id is None) != (
            self.client_secret is None
        ):
            raise ValueError("clientId and clientSecret belong together: give both, or null for both")
        return self


class ConfinementOut(Model):
    """A user or team that may see only these organizations."""

    kind: SubjectKind
    subject: str
    organizations: list[str]


class ConfinementBody(Model):
    """The organizations that a user or team may see. An empty list allows all."""

    kind: SubjectKind
    subject: Annotated[str, Field(min_length=1, max_length=MAX_SUBJECT_CHARACTERS)]
    organizations: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=MAX_ORGANIZATIONS)
    ]
