"""What SoftPro's records hold that no mapping reads, what mappings read that is not there, and what is new."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from softpro.analysis.coverage import coverage
from softpro.analysis.field_profile import refresh as look
from softpro.entities import EntityType
from softpro_web.deps import DatabaseDep, Reader
from softpro_web.models.base import DataResponse
from softpro_web.models.coverage import CoverageOut

router = APIRouter()


@router.get("/mappings/coverage")
def get_coverage(
    integration_id: Annotated[UUID, Query(alias="integrationId")],
    user: Reader,
    database: DatabaseDep,
    entity_type: Annotated[EntityType | None, Query(alias="entityType")] = None,
    refresh: Annotated[bool, Query(description="look at what landed just now, too")] = False,
) -> DataResponse[list[CoverageOut]]:
    """The coverage of each entity type, or of one; refreshed before where it is older than an hour."""
    found = []
    with database.connect() as connection:
        integration = user.integration(connection, integration_id)
        for each in [entity_type] if entity_type else list(EntityType):
            look(connection, integration, each, only_if_old=not refresh)
            found.append(CoverageOut.model_validate(coverage(connection, integration, each).as_json()))
    return DataResponse(data=found)
