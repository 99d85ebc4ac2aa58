"""Change the settings of an integration, as the HTTP API and the command line do: one validation, one code path."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic.alias_generators import to_camel

from softpro.db import integration_settings
from softpro.db.database import Connection
from softpro.db.encryption import Vault
from softpro.db.integration_settings import ConflictStrategy
from softpro.mapping.columns import is_table_or_column
from softpro.settings import MAX_SYNC_SECONDS, MIN_SYNC_SECONDS

MAX_OVERRIDES = 200
CLIENT = {"client_id", "client_secret"}

Environment = Literal["SANDBOX", "PRODUCTION"]


class SettingsChange(BaseModel):
    """The settings to change. Environment and client take effect with the next consent."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

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
    def _can_be(self) -> SettingsChange:
        sent = self.model_fields_set
        if not sent:
            raise ValueError("give at least one setting")
        if wrong := [name for name in self.conflict_overrides if not is_table_or_column(name)]:
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

    @property
    def sent(self) -> set[str]:
        """Return the names of the settings that change, by column."""
        return self.model_fields_set - {"sync_documents"}


def change_settings(connection: Connection, vault: Vault, integration_id: UUID, change: SettingsChange) -> None:
    """Change the settings that are given, and no others, in one transaction."""
    plain = change.model_dump(include=change.sent - CLIENT, mode="json")
    if "environment" in plain:
        plain["next_environment"] = plain.pop("environment")
    with connection.transaction():
        integration_settings.change(connection, integration_id, plain)
        if change.sent & CLIENT:
            secret = change.client_secret.get_secret_value() if change.client_secret else None
            integration_settings.change_client(connection, vault, integration_id, change.client_id, secret)
