"""Describe the bodies about an organization's connection."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, SecretStr, model_validator

from softpro_web.models.base import Model


class ConnectBody(Model):
    """The organization to connect."""

    organization_id: Annotated[str, Field(min_length=1, max_length=128)]
    environment: Literal["SANDBOX", "PRODUCTION"] | None = Field(
        None, description="Default: the environment in the settings; SANDBOX for a new integration."
    )
    client_id: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        None, description="The organization's own OAuth client, together with `clientSecret`."
    )
    client_secret: Annotated[SecretStr, Field(min_length=1, max_length=2_000)] | None = None
    redirect_path: str | None = Field(None, description="The frontend page for the browser after the callback.")

    @model_validator(mode="after")
    def _whole_client(self) -> ConnectBody:
        if (self.client_id is None) != (self.client_secret is None):
            raise ValueError("give clientId and clientSecret together, or neither")
        return self


class AuthorizationUrl(Model):
    """The address to which to send the user's browser.

    `browserUrl` is for a caller that is a server or a page of another site: it works once, and sets the cookie.
    """

    authorization_url: str
    browser_url: str | None


class Outage(Model):
    """A pause after repeated failures: SoftPro is not called before `nextTryAt`."""

    since: str
    next_try_at: str
    reason: str


class ConnectionStatus(Model):
    """The state of an organization's connection. `syncFrequency` is in seconds."""

    id: UUID
    status: str
    environment: str
    last_sync_at: str | None
    sync_enabled: bool
    sync_frequency: int
    last_error_at: str | None
    last_error_message: str | None
    outage: Outage | None
