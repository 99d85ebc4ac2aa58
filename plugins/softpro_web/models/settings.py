"""Describe the bodies about an integration's settings, and about confinement to organizations."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from softpro.connections.settings_change import Environment
from softpro.db.access_scopes import MAX_ORGANIZATIONS, MAX_SUBJECT_CHARACTERS, SubjectKind
from softpro.db.integration_settings import ConflictStrategy
from softpro_web.models.base import Model


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
