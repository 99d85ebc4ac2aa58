"""What the calls on transactions and contacts share: a page, one record, a create, a change."""

import msgspec
from starlette.responses import Response

from softpro_sandbox.catalogue import Selection, Version
from softpro_sandbox.clock import iso
from softpro_sandbox.errors import ApiError
from softpro_sandbox.office import change_some
from softpro_sandbox.records.changes import merged, stamped
from softpro_sandbox.records.codec import Record, decode, encode
from softpro_sandbox.world import EntityType, World

JSON = "application/json"


def page_response(
    world: World, organization_id: str, entity: EntityType, selection: Selection, limit: int, offset: int
) -> Response:
    """A list answer, joined from the records' own bytes. With the switch on, records change right after it."""
    page = world.catalogue(organization_id, entity).page(selection, limit, offset)
    pagination = {
        "total": page.total,
        "limit": limit,
        "offset": offset,
        "hasMore": offset + len(page.bodies) < page.total,
    }
    body = b'{"data":[%b],"pagination":%b}' % (b",".join(page.bodies), msgspec.json.encode(pagination))
    if world.switches.change_while_paging:
        change_some(world, organization_id, entity, world.switches.change_while_paging)
    return Response(body, media_type=JSON)


def read(world: World, organization_id: str, entity: EntityType, record_id: str) -> Response:
    """One record as readers see it now; 404 when there is none, or none yet."""
    version = world.catalogue(organization_id, entity).shown.get(record_id)
    if version is None:
        raise missing(entity, record_id)
    return one_response(world, version)


def create(
    world: World, organization_id: str, entity: EntityType, record_id: str, ids: Record, fields: Record
) -> Response:
    """A new record of `ids` and the fields sent; 201."""
    now = world.stamp()
    record = ids | fields | {"createdAt": iso(now), "updatedAt": iso(now)}
    [version] = world.write(organization_id, entity, [(record_id, now, encode(record))])
    return one_response(world, version, 201)


def change(
    world: World, organization_id: str, entity: EntityType, record_id: str, fields: Record, if_match: str | None
) -> Response:
    """A record with only the fields sent changed.

    It is the true record that changes, surfaced or not. 409 with it in `details.current` when `If-Match` names
    another version. What changes nothing does not move `updatedAt`.
    """
    version = world.catalogue(organization_id, entity).true.get(record_id)
    if version is None:
        raise missing(entity, record_id)
    if world.switches.etags and if_match is not None and not matches(if_match, version.etag):
        details = {"current": msgspec.Raw(version.body)}
        raise ApiError(409, f"{record_id} is not the version that If-Match names.", details)
    before = decode(version.body)
    if merged(before, fields) != before:
        now = world.stamp()
        body = encode(stamped(before, fields, now))
        [version] = world.write(organization_id, entity, [(record_id, now, body)])
    return one_response(world, version)


def one_response(world: World, version: Version, status: int = 200) -> Response:
    """A record itself, with its ETag unless that is switched off."""
    headers = {"ETag": version.etag} if world.switches.etags else None
    return Response(version.body, status, headers, JSON)


def missing(entity: EntityType, record_id: str) -> ApiError:
    """404 for a record that is not there."""
    return ApiError(404, f"There is no {entity.lower()} {record_id}.")


def matches(if_match: str, etag: str) -> bool:
    """Whether an If-Match header holds for a strong ETag (RFC 9110 §13.1.1)."""
    return if_match.strip() == "*" or etag in [tag.strip() for tag in if_match.split(",")]
