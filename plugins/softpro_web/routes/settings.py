"""Read and change the settings of an integration."""

from __future__ import annotations

import logging
from uuid import UUID

from softpro.connections.settings_change import SettingsChange, change_settings
from softpro.db import integration_settings
from softpro.db.database import Connection
from softpro_web.deps import Configurer, DatabaseDep, Reader, ServicesDep
from softpro_web.models.base import DataResponse
from softpro_web.models.settings import SettingsOut
from softpro_web.routing import APIRouter

router = APIRouter(prefix="/settings")
log = logging.getLogger(__name__)


@router.get("/{integration_id}")
def get_settings(integration_id: UUID, user: Reader, database: DatabaseDep) -> DataResponse[SettingsOut]:
    """Return an integration's settings: what to sync, how often, and as which client. Secrets are never returned."""
    with database.connect() as connection:
        user.integration(connection, integration_id)
        return _response(connection, integration_id)


@router.patch("/{integration_id}")
def update_settings(
    integration_id: UUID, body: SettingsChange, user: Configurer, database: DatabaseDep, services: ServicesDep
) -> DataResponse[SettingsOut]:
    """Change the settings in the request, and no others.

    A new environment or client takes effect once a user connects again.
    """
    with database.connect() as connection:
        integration = user.integration(connection, integration_id)
        change_settings(connection, services.vault, integration.id, body)
        named = {"integration_id": str(integration.id), "organization_id": integration.organization_id}
        log.info("settings_changed", extra={**named, "changed": sorted(body.sent), "changed_by": user.name})
        return _response(connection, integration_id)


def _response(connection: Connection, integration_id: UUID) -> DataResponse[SettingsOut]:
    found = integration_settings.read(connection, integration_id)
    return DataResponse(
        data=SettingsOut.model_validate({name: getattr(found, name) for name in SettingsOut.model_fields})
    )
