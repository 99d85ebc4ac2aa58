"""Implement the operations that transactions and contacts share: list, read, create, change, delete."""

import msgspec
from starlette.responses import Response

from softpro_sandbox.clock import iso
from softpro_sandbox.errors import ApiError, bad_field
from softpro_sandbox.query_params import PageQuery
from softpro_sandbox.random_changes import change_random_records
from softpro_sandbox.record_store import Selection, Version, etag_of
from softpro_sandbox.records.changes import merged, stamped
from softpro_sandbox.records.codec import Record, decode, encode
from softpro_sandbox.state import EntityType, SandboxState
from softpro_sandbox.switches import Switches
from softpro_sandbox.webhooks.events import changed_events, created_events, deleted_events
from softpro_sandbox.webhooks.notify import has_receiver, notify

JSON = "application/json"
_USUAL_LIMIT = 50

ID_FIELDS = {EntityType.TRANSACTION: "orderId", EntityType.CONTACT: "contactId"}


def page_response(
    state: SandboxState, organization_id: str, entity: EntityType, selection: Selection, query: PageQuery
) -> Response:
    """Return a page of a list, joined from the records' own bytes.

    With `changeWhilePaging` on, change records right after it.
    """
    limit = page_limit(query, state.switches)
    page = state.store(organization_id, entity).page(selection, limit, query.offset)
    position = pagination(page.total, limit, query.offset, len(page.bodies))
    position["hasMore"] = position["hasMore"] and state.switches.announce_more
    body = b'{"data":[%b],"pagination":%b}' % (b",".join(page.bodies), msgspec.json.encode(position))
    if state.switches.change_while_paging:
        change_random_records(state, organization_id, entity, state.switches.change_while_paging)
    return Response(body, media_type=JSON)


def page_limit(query: PageQuery, switches: Switches) -> int:
    """Return the size of a page. Raise a 400 when the request exceeds `maxPageSize`."""
    if query.limit is None:
        return min(_USUAL_LIMIT, switches.max_page_size)
    if query.limit > switches.max_page_size:
        raise bad_field("limit", f"Input should be less than or equal to {switches.max_page_size}")
    return query.limit


def pagination(total: int, limit: int, offset: int, count: int) -> dict[str, object]:
    """Return the position of a page with `count` records in its list."""
    return {"total": total, "limit": limit, "offset": offset, "hasMore": offset + count < total}


def read(state: SandboxState, organization_id: str, entity: EntityType, record_id: str) -> Response:
    """Return a record as it is visible now. Raise a 404 when it does not exist or has not surfaced."""
    return record_response(state, visible_version(state, organization_id, entity, record_id).body)


def create(
    state: SandboxState, organization_id: str, entity: EntityType, record_id: str, ids: Record, fields: Record
) -> Response:
    """Create a record from `ids` and the fields sent, and return it with 201."""
    now = state.stamp()
    record = ids | fields | {"createdAt": iso(now), "updatedAt": iso(now)}
    [version] = state.write(organization_id, entity, [(record_id, now, encode(record))])
    notify(state, organization_id, created_events(entity, record_id, version.body))
    return _written_response(state, version.body, {**ids, **fields}, ids, 201)


def change(
    state: SandboxState, organization_id: str, entity: EntityType, record_id: str, fields: Record, if_match: str | None
) -> Response:
    """Update only the sent fields of a record.

    The latest version changes, surfaced or not. A change without effect does not move `updatedAt`.
    When `If-Match` names another version, raise a 409 with the latest one in `details.current`.
    """
    version = latest_version(state, organization_id, entity, record_id)
    check_if_match(state, record_id, if_match, version.body, version.etag)
    if record_id in state.switches.locked:
        raise ApiError(409, f"{record_id} is locked.")
    written = amend(state, organization_id, entity, record_id, version, fields)
    if written is not version and has_receiver(state, organization_id):
        before, after = decode(version.body), decode(written.body)
        notify(state, organization_id, changed_events(entity, record_id, before, after, written.body))
    ids = {ID_FIELDS[entity]: record_id}
    return _written_response(state, written.body, {**ids, **fields}, ids, 200)


def amend(
    state: SandboxState, organization_id: str, entity: EntityType, record_id: str, version: Version, fields: Record
) -> Version:
    """Write a record's next version with fields merged in; return the same version when nothing changes."""
    before = decode(version.body)
    if merged(before, fields) == before:
        return version
    now = state.stamp()
    body = encode(stamped(before, fields, now))
    [written] = state.write(organization_id, entity, [(record_id, now, body)])
    return written


def remove(state: SandboxState, organization_id: str, entity: EntityType, record_id: str) -> Response:
    """Delete a record, from lists at once, and return 204."""
    if not state.delete(organization_id, entity, record_id):
        raise not_found(entity, record_id)
    notify(state, organization_id, deleted_events(entity, record_id))
    return Response(status_code=204)


def visible_version(state: SandboxState, organization_id: str, entity: EntityType, record_id: str) -> Version:
    """Return a record as it is visible now. Raise a 404 when it does not exist or has not surfaced."""
    version = state.store(organization_id, entity).visible.get(record_id)
    if version is None:
        raise not_found(entity, record_id)
    return version


def latest_version(state: SandboxState, organization_id: str, entity: EntityType, record_id: str) -> Version:
    """Return a record's latest version, surfaced or not; writes are based on it. Raise a 404 when it does not exist."""
    version = state.store(organization_id, entity).latest.get(record_id)
    if version is None:
        raise not_found(entity, record_id)
    return version


def check_if_match(state: SandboxState, record_id: str, if_match: str | None, current: bytes, *etags: str) -> None:
    """Raise a 409 with the current record when `If-Match` was sent and matches none of its ETags."""
    if state.switches.etags and if_match is not None and not any(matches(if_match, etag) for etag in etags):
        details = {"current": msgspec.Raw(current)}
        raise ApiError(409, f"{record_id} has changed: If-Match names another version.", details)


def record_response(state: SandboxState, body: bytes, status: int = 200) -> Response:
    """Return a record or a part of one, with its ETag unless ETags are switched off."""
    return Response(body, status, {"ETag": etag_of(body)} if state.switches.etags else None, JSON)


def _written_response(state: SandboxState, body: bytes, sent: Record, ids: Record, status: int) -> Response:
    """Return the response to a change as `writeResponse` says. A POST always returns the id."""
    match state.switches.write_response:
        case "changed":
            return record_response(state, encode({**sent, "updatedAt": decode(body)["updatedAt"]}), status)
        case "ids":
            return record_response(state, encode(ids), status)
        case "nothing":
            return record_response(state, encode(ids), status) if status == 201 else Response(status_code=204)
        case _:
            return record_response(state, body, status)


def not_found(entity: EntityType, record_id: str) -> ApiError:
    """Create the 404 error for a missing record."""
    return ApiError(404, f"{entity.capitalize()} {record_id} does not exist.")


def matches(if_match: str, etag: str) -> bool:
    """Return whether an If-Match header matches a strong ETag (RFC 9110 §13.1.1)."""
    return if_match.strip() == "*" or etag in [tag.strip() for tag in if_match.split(",")]
