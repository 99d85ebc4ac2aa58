"""Report that this server responds, and the state of the whole system."""

from __future__ import annotations

from softpro.db.health import health as read_health
from softpro_web.deps import DatabaseDep, Reader
from softpro_web.limiters import Brake
from softpro_web.models.base import DataResponse
from softpro_web.models.health import HealthDetail, Liveness
from softpro_web.routing import APIRouter, limits

router = APIRouter(prefix="/health")


@router.get("")
@limits(brake=Brake(at_once=64, at_once_each=16, per_second=20, burst=200))
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
