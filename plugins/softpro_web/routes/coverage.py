"""Report unmapped, missing and new fields of SoftPro's records."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from softpro.analysis.coverage import coverage
from softpro.analysis.field_profile import refresh as refresh_profile
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
    refresh: Annotated[bool, Query(description="Include the records that have just landed.")] = False,
) -> DataResponse[list[CoverageOut]]:
    """Return the fields that mappings do not read, fields that records lack, and new fields and codes.

    A result that is older than one hour is updated first.
    """
    found = []
    with database.connect() as connection:
        integration = user.integration(connection, integration_id)
        for each in [entity_type] if entity_type else list(EntityType):
            refresh_profile(connection, integration, each, only_if_old=not refresh)
            found.append(CoverageOut.model_validate(coverage(connection, integration, each).as_json()))
    return DataResponse(data=found)
