"""Bodies of connecting an organization, and of its status."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, SecretStr, model_validator

from softpro_web.models.base import Model


class ConnectBody(Model):
    organization_id: Annotated[str, Field(min_length=1, max_length=128)]
    environment: Literal["SANDBOX", "PRODUCTION"] | None = Field(
        None, description="What the settings name, if left out; SANDBOX for a new integration."
    )
    client_id: Annotated[str, Field(min_length=1, max_length=500)] | None = Field(
        None, description="An OAuth client of the organization's own; with `clientSecret`."
    )
    client_secret: Annotated[SecretStr, Field(min_length=1, max_length=2_000)] | None = None
    redirect_path: str | None = Field(None, description="Where in the frontend the browser goes after the callback.")

    @model_validator(mode="after")
    def _whole_client(self) -> ConnectBody:
        if (self.client_id is None) != (self.client_secret is None):
            raise ValueError("clientId and clientSecret come together")
        return self


class AuthorizationUrl(Model):
    authorization_url: str


class Outage(Model):
    """SoftPro failed so often in a row that it is not asked before `nextTryAt`."""

    since: str
    next_try_at: str
    reason: str


class ConnectionStatus(Model):
    id: UUID
    status: str
    environment: str
    last_sync_at: str | None
    sync_enabled: bool
    sync_frequency: int
    last_error_at: str | None
    last_error_message: str | None
    outage: Outage | None
