"""Report unmapped, missing and new fields of SoftPro's records."""

from __future__ import annotations

from threading import Event
from typing import Annotated
from uuid import UUID

from fastapi import Query, Request

from softpro.analysis.coverage import coverage
from softpro.analysis.field_profile import refresh as refresh_profile
from softpro.db.database import Connection, Database
from softpro.db.integrations import Integration
from softpro.entities import EntityType
from softpro_web.deps import DatabaseDep, Reader, Starter
from softpro_web.expensive import run_expensive
from softpro_web.models.base import DataResponse
from softpro_web.models.coverage import CoverageBody, CoverageOut
from softpro_web.routing import APIRouter

LANDING_TIMEOUT_SECONDS = 2.0
"""How long a refresh waits for runs that are just storing records."""

router = APIRouter(prefix="/mappings/coverage")


@router.get("")
def get_coverage(
    integration_id: Annotated[UUID, Query(alias="integrationId")],
    user: Reader,
    database: DatabaseDep,
    entity_type: Annotated[EntityType | None, Query(alias="entityType")] = None,
) -> DataResponse[list[CoverageOut]]:
    """Return the fields that mappings do not read, fields that records lack, and new fields and codes.

    The result is that of the last refresh, at `refreshedAt`. A DAG refreshes it every day.
    """
    with database.connect() as connection:
        integration = user.integration(connection, integration_id)
        return DataResponse(data=[_out(connection, integration, each) for each in _wanted(entity_type)])


@router.post("/refresh")
async def refresh_coverage(body: CoverageBody, request: Request, user: Starter) -> DataResponse[list[CoverageOut]]:
    """Examine the records that landed since the last refresh, and return the coverage."""

    def work(database: Database, _: Event) -> DataResponse[list[CoverageOut]]:
        with database.connect() as connection:
            integration = user.integration(connection, body.integration_id)
            for each in _wanted(body.entity_type):
                refresh_profile(
                    connection, integration, each, only_if_old=False, landing_timeout=LANDING_TIMEOUT_SECONDS
                )
            return DataResponse(data=[_out(connection, integration, each) for each in _wanted(body.entity_type)])

    return await run_expensive(request, user.name, work)


def _wanted(entity_type: EntityType | None) -> list[EntityType]:
    return [entity_type] if entity_type else list(EntityType)


def _out(connection: Connection, integration: Integration, entity_type: EntityType) -> CoverageOut:
    return CoverageOut.model_validate(coverage(connection, integration, entity_type).as_json())
