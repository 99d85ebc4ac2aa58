"""Whether this server answers, and how the product fares."""

from __future__ import annotations

from fastapi import APIRouter

from softpro.db.health import health as look
from softpro_web.deps import DatabaseDep, Reader
from softpro_web.models.base import DataResponse
from softpro_web.models.health import Alive, HealthOut

router = APIRouter(prefix="/health")


@router.get("")
async def alive() -> DataResponse[Alive]:
    """This server answers. Open, since whoever restarts it brings no token; it touches nothing."""
    return DataResponse(data=Alive())


@router.get("/detail")
def detail(user: Reader, database: DatabaseDep) -> DataResponse[HealthOut]:
    """The database's revision, and what waits, failed or is overdue of the organizations that the caller may see."""
    with database.connect() as connection:
        return DataResponse(data=HealthOut.model_validate(look(connection, user.organizations).as_json()))
