"""Whether this server answers, and how the product fares."""

from __future__ import annotations

from fastapi import APIRouter

from softpro.db.health import health as look
from softpro_web.deps import DatabaseDep, Reader
from softpro_web.models.base import DataResponse
from softpro_web.models.health import HealthDetail, Liveness

router = APIRouter(prefix="/health")


@router.get("")
async def get_health() -> DataResponse[Liveness]:
    """This server answers. Open, since whoever restarts it brings no token; it touches nothing."""
    return DataResponse(data=Liveness())


@router.get("/detail")
def get_health_detail(user: Reader, database: DatabaseDep) -> DataResponse[HealthDetail]:
    """The database's revision, and what waits, failed or is overdue of the organizations that the caller may see."""
    with database.connect() as connection:
        return DataResponse(data=HealthDetail.model_validate(look(connection, user.organizations).as_json()))
