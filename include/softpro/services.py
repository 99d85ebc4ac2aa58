"""What the steps need from outside, read once from the environment and handed down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from softpro.db.database import Database
from softpro.db.encryption import Vault
from softpro.db.integrations import Integration
from softpro.settings import EncryptionSettings, OAuthSettings, SyncSettings, VendorSettings, load
from softpro.softpro360 import oauth
from softpro.softpro360.client import Client, client_for

SETTINGS = (EncryptionSettings, OAuthSettings, VendorSettings, SyncSettings)


@dataclass(frozen=True)
class Services:
    """The database, the keys, and the settings of vendor and sync."""

    database: Database
    vault: Vault
    oauth: OAuthSettings
    vendor: VendorSettings
    sync: SyncSettings

    @contextmanager
    def client(self, integration: Integration, *, bulk: bool = False) -> Iterator[Client]:
        """The organization's connection to SoftPro; `bulk` work leaves a reserve of the rate limit to everybody else.

        Raises DatabaseUnavailable, also in the middle: without the shared budget nothing is sent.
        """
        token = oauth.token_source(self.database, self.vault, self.oauth, integration.id)
        with self.database.connect() as connection:
            client = client_for(connection, integration.id, integration.environment, self.vendor, token, bulk=bulk)
            with client.session:
                yield client


def services(database: Database) -> Services:
    """The services as the environment describes them. Raises SettingsError, with all that is missing or wrong."""
    encryption, oauth_settings, vendor, sync = load(*SETTINGS)
    return Services(database, Vault(encryption.keys), oauth_settings, vendor, sync)
