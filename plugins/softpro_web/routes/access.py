"""Confine users and teams to organizations, and list them."""

from __future__ import annotations

from softpro.db import access_scopes
from softpro.db.access_scopes import Confinement
from softpro_web.deps import Configurer, DatabaseDep
from softpro_web.models.base import DataResponse, ListResponse, Meta
from softpro_web.models.settings import ConfinementBody, ConfinementOut
from softpro_web.pagination import DEFAULT_LIMIT, Limit, Offset
from softpro_web.routing import KIB, APIRouter, limits

ACCESS_BODY_BYTES = 512 * KIB  # 1,000 organizations

router = APIRouter()


@router.get("/access")
def list_access(
    user: Configurer,
    database: DatabaseDep,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> ListResponse[ConfinementOut]:
    """List the confined users and teams with their organizations.

    Lists only organizations that the caller may see. A user without an entry may see all.
    """
    with database.connect() as connection:
        found, total = access_scopes.confinements(connection, user.organizations, limit, offset)
    return ListResponse(data=[_out(each) for each in found], meta=Meta(total=total, limit=limit, offset=offset))


@router.put("/access")
@limits(body=ACCESS_BODY_BYTES)
def set_access(body: ConfinementBody, user: Configurer, database: DatabaseDep) -> DataResponse[ConfinementOut]:
    """Replace the list of organizations that a user or team may see.

    An empty list allows every organization. A confined caller can change only entries for its own organizations.
    """
    for organization in body.organizations:
        user.require(organization)
    with database.connect() as connection:
        confined = access_scopes.confine(
            connection, body.kind, body.subject, body.organizations, by=user.name, within=user.organizations
        )
    return DataResponse(data=_out(confined))


def _out(confinement: Confinement) -> ConfinementOut:
    return ConfinementOut.model_validate(confinement.as_json())
