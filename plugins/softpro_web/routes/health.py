"""Report that this server responds, and the state of the whole system."""

from __future__ import annotations

from fastapi import APIRouter

from softpro.db.health import health as read_health
from softpro_web.deps import DatabaseDep, Reader
from softpro_web.models.base import DataResponse
from softpro_web.models.health import HealthDetail, Liveness

router = APIRouter(prefix="/health")


@router.get("")
async def get_health() -> DataResponse[Liveness]:
    """Report that this server responds.

    The route requires no login, because liveness probes have no token. It checks nothing.
    """
    return DataResponse(data=Liveness())


@router.get("/detail")
def get_health_detail(user: Reader, database: DatabaseDep) -> DataResponse[HealthDetail]:
    """Return the state of the system, and counts of waiting, failed and overdue work.

    Counts cover the organizations that the caller may see.
    """
    with database.connect() as connection:
        return DataResponse(data=HealthDetail.model_validate(read_health(connection, user.organizations).as_json()))
