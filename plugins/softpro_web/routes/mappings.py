"""The mapping sets of an integration: read, and replaced as a whole."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from softpro.mapping import sets
from softpro.store import integrations
from softpro_web.deps import Configurer, DatabaseDep, Reader
from softpro_web.models import Answer, Done, MappingOut, MappingsBody

router = APIRouter()


@router.get("/mappings")
def read(
    integration_id: Annotated[UUID, Query(alias="integrationId")], user: Reader, database: DatabaseDep
) -> Answer[list[MappingOut]]:
    """All mappings of the integration, by entity type, in the order they were given."""
    with database.connect() as connection:
        integrations.get(connection, integration_id)
        stored = sets.read(connection, integration_id)
    return Answer(data=[MappingOut(id=entry.id, **asdict(entry.mapping)) for entry in stored])


@router.put("/mappings")
def replace(body: MappingsBody, user: Configurer, database: DatabaseDep) -> Done:
    """Replaces the set of each entity type that the body names; refused as a whole if one entry can't work."""
    with database.connect() as connection:
        integration = integrations.get(connection, body.integration_id)
        sets.replace(
            connection,
            integration.id,
            integration.organization_id,
            [entry.mapping() for entry in body.mappings],
            author=user,
        )
    return Done(message="Mappings updated successfully")
