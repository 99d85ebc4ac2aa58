"""Read and change the mapping sets of an integration, and apply them to records fetched before."""

from __future__ import annotations

from collections.abc import Mapping as Dict
from dataclasses import asdict
from typing import Annotated
from uuid import UUID

from fastapi import Query

from softpro.db.database import Connection
from softpro.db.integrations import Integration
from softpro.entities import EntityType, Mode
from softpro.mapping import repository
from softpro.mapping.repository import Replaced
from softpro.sync import remap as remapping
from softpro_web.dag_runs import Launcher
from softpro_web.deps import REMAP_DAG, Configurer, DatabaseDep, Reader, Starter
from softpro_web.models.base import DataResponse
from softpro_web.models.mappings import (
    ActiveVersion,
    MappingOut,
    MappingsBody,
    MappingsUpdate,
    MappingsUpdateResponse,
    RemapBody,
    RemapOffer,
)
from softpro_web.models.sync import StartedRun, SyncResult
from softpro_web.routing import KIB, APIRouter, limits

MAPPINGS_BODY_BYTES = 2 * KIB * KIB  # 1,000 entries, each with a long rule

UPDATED, NO_CHANGE = "Mappings updated successfully", "Mappings are unchanged"

router = APIRouter()


@router.get("/mappings")
def list_mappings(
    integration_id: Annotated[UUID, Query(alias="integrationId")], user: Reader, database: DatabaseDep
) -> DataResponse[list[MappingOut]]:
    """List an integration's mappings by entity type, in the order in which they were saved."""
    with database.connect() as connection:
        user.integration(connection, integration_id)
        stored = repository.read(connection, integration_id)
    return DataResponse(data=[MappingOut(id=entry.id, **asdict(entry.mapping)) for entry in stored])


@router.put("/mappings")
@limits(body=MAPPINGS_BODY_BYTES)
def update_mappings(body: MappingsBody, user: Configurer, database: DatabaseDep) -> MappingsUpdateResponse:
    """Update or add mappings, by entity type and `roiSystemsField`.

    With `replace`, the body has the complete set of each of its entity types. One invalid entry refuses the whole
    request.
    """
    change = repository.replace if body.replace else repository.update
    with database.connect() as connection:
        integration = user.integration(connection, body.integration_id)
        in_force = change(
            connection,
            integration.id,
            integration.organization_id,
            [entry.mapping() for entry in body.mappings],
            author=user.name,
            expected=body.expected_versions,
        )
        return update_response(connection, integration, in_force)


@router.post("/mappings/remap", responses={202: {"model": DataResponse[StartedRun]}})
async def start_remap(
    body: RemapBody,
    user: Starter,
    launcher: Launcher,
) -> DataResponse[SyncResult] | DataResponse[StartedRun]:
    """Map all fetched records of an entity type again.

    Returns 200 with the result if the run ends within `wait`, else 202.
    """
    return await launcher.run(user, body.integration_id, body.entity_type, dag_id=REMAP_DAG, mode=Mode.REMAP, conf={})


def update_response(
    connection: Connection, integration: Integration, in_force: Dict[EntityType, Replaced]
) -> MappingsUpdateResponse:
    """Return the response to a change of mappings: the versions in force, the differences, and the remap to offer.

    The remap covers the entity types that changed, are switched on, and have fetched records.
    """
    changed = [each for each in integration.entity_types() if each in in_force and in_force[each].changed]
    records = remapping.count_records(connection, integration.id, changed) if changed else 0
    return MappingsUpdateResponse(
        message=UPDATED if any(each.changed for each in in_force.values()) else NO_CHANGE,
        data=MappingsUpdate(
            versions=[
                ActiveVersion(entity_type=entity_type, version=each.version, changed=each.changed)
                for entity_type, each in in_force.items()
            ],
            **repository.difference(in_force).as_json(),
            remap=RemapOffer(dag_id=REMAP_DAG, conf=_conf(integration, changed), records=records) if records else None,
        ),
    )


def _conf(integration: Integration, entity_types: list[EntityType]) -> dict[str, object]:
    return {
        "organization": integration.organization_id,
        "entity_types": [entity_type.table for entity_type in entity_types],
    }
