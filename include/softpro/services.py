"""Read the configuration once and pass it, with the database and the keys, to the steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from softpro.db.database import Database
from softpro.db.encryption import Vault
from softpro.db.integrations import Integration
from softpro.delete_limit import DeleteLimit
from softpro.settings import (
    CredentialSettings,
    EncryptionSettings,
    OAuthSettings,
    QualitySettings,
    ReconcileSettings,
    SyncSettings,
    VendorSettings,
    load,
)
from softpro.softpro360 import oauth
from softpro.softpro360.client import Client, client_for

SETTINGS = (EncryptionSettings, OAuthSettings, VendorSettings, SyncSettings)


@dataclass(frozen=True)
class Services:
    """The database, the encryption keys, and the settings for OAuth, the vendor and sync."""

    database: Database
    vault: Vault
    oauth: OAuthSettings
    vendor: VendorSettings
    sync: SyncSettings

    @cached_property
    def quality(self) -> QualitySettings:
        """Return when a batch is held. Raises SettingsError, where only a run that checks records needs them."""
        (quality,) = load(QualitySettings)
        return quality

    @cached_property
    def delete_limit(self) -> DeleteLimit:
        """Return how many deletes need no approval. Raises SettingsError, where only deletes need it."""
        (reconcile,) = load(ReconcileSettings)
        return reconcile.delete_limit

    @cached_property
    def credentials(self) -> CredentialSettings:
        """Return our OAuth client, which only a connection without a client of its own needs. Raises SettingsError."""
        (credentials,) = load(CredentialSettings)
        return credentials

    @contextmanager
    def client(self, integration: Integration, *, bulk: bool = False) -> Iterator[Client]:
        """Yield the organization's client for SoftPro. A `bulk` client leaves part of the rate limit to others.

        Raises:
            DatabaseUnavailable: at any time during use, because nothing is sent without the shared budget.
        """
        token = oauth.token_source(self.database, self.vault, self.oauth, integration.id)
        with self.database.connect() as connection:
            client = client_for(connection, integration.id, integration.environment, self.vendor, token, bulk=bulk)
            with client.session:
                yield client


def services(database: Database) -> Services:
    """Build the services from the environment.

    Raises:
        SettingsError: with every setting that is missing or wrong.
    """
    encryption, oauth_settings, vendor, sync = load(*SETTINGS)
    return Services(database, Vault(encryption.keys), oauth_settings, vendor, sync)
