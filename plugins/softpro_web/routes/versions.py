"""List, compare and restore versions of mapping sets."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Path, Query

from softpro.entities import EntityType
from softpro.errors import NotFoundHere
from softpro.mapping import repository
from softpro.mapping.diff import diff
from softpro.mapping.document import as_json
from softpro_web.deps import Configurer, DatabaseDep, Reader
from softpro_web.models.base import DataResponse, ListResponse, Meta
from softpro_web.models.mappings import (
    MAX_VERSION,
    DiffOut,
    MappingsUpdateResponse,
    RollbackBody,
    VersionDetail,
    VersionOut,
)
from softpro_web.pagination import DEFAULT_LIMIT, Limit, Offset
from softpro_web.routes.mappings import update_response
from softpro_web.routing import APIRouter

IntegrationId = Annotated[UUID, Query(alias="integrationId")]
OfType = Annotated[EntityType, Query(alias="entityType")]

router = APIRouter(prefix="/mappings")


@router.get("/versions")
def list_mapping_versions(
    integration_id: IntegrationId,
    entity_type: OfType,
    user: Reader,
    database: DatabaseDep,
    limit: Limit = DEFAULT_LIMIT,
    offset: Offset = 0,
) -> ListResponse[VersionOut]:
    """List the current and earlier versions of a mapping set, latest first."""
    with database.connect() as connection:
        stream = user.integration(connection, integration_id).stream(entity_type)
        page, total = repository.versions(connection, stream, limit, offset)
    return ListResponse(
        data=[VersionOut.model_validate(each.as_json(entity_type)) for each in page],
        meta=Meta(total=total, limit=limit, offset=offset),
    )


@router.get("/versions/{version}")
def get_mapping_version(
    version: Annotated[int, Path(ge=1, le=MAX_VERSION)],
    integration_id: IntegrationId,
    entity_type: OfType,
    user: Reader,
    database: DatabaseDep,
) -> DataResponse[VersionDetail]:
    """Return one version, with its mappings in the form that `PUT /mappings` accepts."""
    with database.connect() as connection:
        stream = user.integration(connection, integration_id).stream(entity_type)
        head, mappings = repository.version(connection, stream, version)
    whole = {**head.as_json(entity_type), "mappings": [as_json(mapping) for mapping in mappings]}
    return DataResponse(data=VersionDetail.model_validate(whole))


@router.get("/diff")
def diff_mapping_versions(
    integration_id: IntegrationId,
    entity_type: OfType,
    user: Reader,
    database: DatabaseDep,
    earlier: Annotated[int, Query(alias="from", ge=1, le=MAX_VERSION)],
    later: Annotated[int | None, Query(alias="to", ge=1, le=MAX_VERSION)] = None,
) -> DataResponse[DiffOut]:
    """Compare two versions of a mapping set, by target. Default of `to`: the version in force."""
    with database.connect() as connection:
        stream = user.integration(connection, integration_id).stream(entity_type)
        later = later or repository.current(connection, stream).version
        if later is None:
            raise NotFoundHere(f"This integration has no mappings for {entity_type.table} yet")
        _, before = repository.version(connection, stream, earlier)
        _, after = repository.version(connection, stream, later)
    found = {"entityType": entity_type, "from": earlier, "to": later, **diff(before, after).as_json()}
    return DataResponse(data=DiffOut.model_validate(found))


@router.post("/rollback")
def rollback_mappings(body: RollbackBody, user: Configurer, database: DatabaseDep) -> MappingsUpdateResponse:
    """Go back to an earlier version, by a new version that copies it.

    The request is refused if that set would be invalid today.
    """
    with database.connect() as connection:
        integration = user.integration(connection, body.integration_id)
        in_force = repository.restore(connection, integration.stream(body.entity_type), body.version, author=user.name)
        return update_response(connection, integration, {body.entity_type: in_force})
