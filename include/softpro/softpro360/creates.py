"""Create records exactly once, although responses get lost.

The vendor has no idempotency key, so a POST with a lost response may have been carried out. Every create therefore
carries our own id in `customFields.roiSystemsId` and is stored before it is sent.

If the outcome is unknown, the record is looked up by that id once it must have surfaced, and a second time as much
later. Only then is it sent again. No process sleeps in between: the stored row says when it is due, and the caller
calls again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO
from uuid import UUID

from softpro.db import create_ledger
from softpro.db.create_ledger import Create
from softpro.db.database import Connection
from softpro.entities import EntityType
from softpro.errors import SoftProAPIError, SoftProError, UsageError
from softpro.softpro360.calls import may_have_happened
from softpro.softpro360.client import TRANSFER_SECONDS, Client, Fields, contains_fields
from softpro.softpro360.contract import LAG, MAX_PAGE_SIZE, ROI_SYSTEMS_ID
from softpro.softpro360.records import Record, Unreadable
from softpro.softpro360.transport import CONNECT_SECONDS, EXCHANGE_SECONDS, SILENCE_SECONDS

MAX_LOOKUPS = 2
SURFACING_DELAY = LAG + timedelta(seconds=1)
"""The time after which a new record is found: the vendor's lag, and a second for the request to arrive."""

CREATE_TIMEOUT_SECONDS = 60.0
"""The limit for the waits of a create: for the rate limit, and before retries of attempts without effect."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CreateSpec:
    """A record to create.

    Attributes:
        send: creates the record and returns the vendor's id.
        find: returns the ids of all records that carry our id.
        order_id: the order that the record belongs to, if any.
        seconds: the limit for the exchange of `send`.
    """

    entity_type: str
    roi_systems_id: str
    send: Callable[[Client], str]
    find: Callable[[Client], list[str]]
    order_id: str | None = None
    seconds: float = EXCHANGE_SECONDS


def record_spec(
    entity_type: EntityType,
    roi_systems_id: str,
    fields: Fields,
    on_response: Callable[[Record | Unreadable], None] = lambda record: None,
) -> CreateSpec:
    """Describe a transaction or contact with these fields. `on_response` receives SoftPro's response if one arrives."""
    named = _named(roi_systems_id, fields)

    def send(client: Client) -> str:
        record = client.create(entity_type, named)
        on_response(record)
        return str(record.key.id if isinstance(record, Record) else record.entity_id)

    return CreateSpec(
        entity_type.value,
        roi_systems_id,
        send=send,
        find=lambda client: _found(client, entity_type, roi_systems_id),
    )


def party_spec(order_id: str, roi_systems_id: str, fields: Fields) -> CreateSpec:
    """Describe a party of an order."""
    named = _named(roi_systems_id, fields)
    return CreateSpec(
        "PARTY",
        roi_systems_id,
        send=lambda client: client.create_party(order_id, named).fields.party_id,
        find=lambda client: [
            each.fields.party_id for each in client.parties(order_id) if _is_ours(each.payload, roi_systems_id)
        ],
        order_id=order_id,
    )


def document_spec(
    order_id: str, roi_systems_id: str, file: BinaryIO, file_name: str, mime_type: str, metadata: Fields
) -> CreateSpec:
    """Describe a document of an order. The file is read from its beginning for each attempt."""
    named = _named(roi_systems_id, metadata)

    def send(client: Client) -> str:
        file.seek(0)
        return client.upload(order_id, file, file_name, mime_type, named).fields.document_id

    return CreateSpec(
        "DOCUMENT",
        roi_systems_id,
        send=send,
        find=lambda client: [
            each.fields.document_id for each in client.documents(order_id) if _is_ours(each.payload, roi_systems_id)
        ],
        order_id=order_id,
        seconds=TRANSFER_SECONDS,
    )


def create(connection: Connection, client: Client, integration_id: UUID, wanted: CreateSpec) -> str:
    """Create the record, unless it exists, and return the vendor's id.

    Args:
        connection: a connection in autocommit, because the create must be stored before it is sent.
        client: the organization's client.
        integration_id: the integration.
        wanted: the record to create.

    Raises:
        OutcomeUnknown: the record may exist; `due_at` is the time to call again.
        NotFoundHere: the integration does not exist.
        SoftProError: the record was not created; see `ApiTransport.call`.
    """
    # The last bytes sent and the first received may each exceed the exchange's limit by one silence.
    seconds = CREATE_TIMEOUT_SECONDS + CONNECT_SECONDS + wanted.seconds + 2 * SILENCE_SECONDS
    over_in = SURFACING_DELAY + timedelta(seconds=seconds)
    with _deadline(client):
        claim, new = create_ledger.begin(
            connection, integration_id, wanted.entity_type, wanted.roi_systems_id, wanted.order_id, over_in
        )
        if claim.softpro_id is not None:
            return claim.softpro_id
        if new:
            return _send(connection, client, claim, wanted)
        found = _look_for(connection, client, claim, wanted)
        if found is not None:
            return found
    with _deadline(client):
        renewed = create_ledger.renew(connection, claim, over_in)
        if renewed is None:
            return create_ledger.current(connection, claim).known()
        return _send(connection, client, renewed, wanted)


def find_earlier_create(
    connection: Connection, client: Client, integration_id: UUID, entity_type: EntityType, roi_systems_id: str
) -> str | None:
    """Return SoftPro's id of a record whose create was begun but is no longer wanted, or None if it was not created.

    Raises:
        OutcomeUnknown: the record may exist.
    """
    claim = create_ledger.find(connection, integration_id, entity_type.value, roi_systems_id)
    if claim is None:
        return None
    if claim.softpro_id is not None:
        return claim.softpro_id
    if not create_ledger.is_due(connection, claim):
        return claim.known()
    found = _found(client, entity_type, roi_systems_id)
    if found:
        return create_ledger.mark_created(connection, claim, found[0])
    create_ledger.discard(connection, claim)
    return None


@contextmanager
def _deadline(client: Client) -> Iterator[None]:
    """Limit the client's deadline within the block to CREATE_TIMEOUT_SECONDS from now.

    A claim that is made in the block is valid for longer than any request that is sent in it.
    """
    deadline = client.deadline
    limit = time.monotonic() + CREATE_TIMEOUT_SECONDS
    client.deadline = limit if deadline is None else min(limit, deadline)
    try:
        yield
    finally:
        client.deadline = deadline


def _look_for(connection: Connection, client: Client, claim: Create, wanted: CreateSpec) -> str | None:
    """Return the id of the record, or None after the last lookup.

    Raises:
        OutcomeUnknown: another lookup is due later.
    """
    try:
        found = wanted.find(client)
    except SoftProError:
        create_ledger.postpone(connection, claim, timedelta(0), claim.lookups)
        raise
    if found:
        return _mark_created(connection, claim, *found)
    if claim.lookups + 1 < MAX_LOOKUPS:
        return create_ledger.postpone(connection, claim, SURFACING_DELAY, claim.lookups + 1).known()
    return None


def _send(connection: Connection, client: Client, claim: Create, wanted: CreateSpec) -> str:
    try:
        softpro_id = wanted.send(client)
    except SoftProError as failed:
        if isinstance(failed, SoftProAPIError) and may_have_happened(failed):
            return create_ledger.postpone(connection, claim, SURFACING_DELAY, 0).known()
        create_ledger.discard(connection, claim)
        raise
    return _mark_created(connection, claim, softpro_id)


def _mark_created(connection: Connection, claim: Create, *found: str) -> str:
    """Store and return the id of the record. If several exist, the id that was stored first counts."""
    softpro_id = create_ledger.mark_created(connection, claim, found[0])
    softpro_ids = sorted({softpro_id, *found})
    if len(softpro_ids) > 1:
        log.warning("created_twice", extra={"entity_type": claim.entity_type, "softpro_ids": softpro_ids})
    return softpro_id


def _found(client: Client, entity_type: EntityType, roi_systems_id: str) -> list[str]:
    """Return the ids of our records from all pages, because the search also matches our id in numbers and names."""
    found: list[str] = []
    offset, more = 0, True
    while more:
        page = client.select(entity_type, {"search": roi_systems_id, "limit": MAX_PAGE_SIZE, "offset": offset})
        found += [
            record.key.id
            for record in page.records
            if isinstance(record, Record) and _is_ours(record.payload, roi_systems_id)
        ]
        offset, more = offset + len(page.records), page.has_more
    return found


def _named(roi_systems_id: str, fields: Fields) -> Fields:
    if not isinstance(fields.get("customFields") or {}, Mapping):
        raise UsageError("customFields should be an object")
    return {**fields, "customFields": {**(fields.get("customFields") or {}), ROI_SYSTEMS_ID: roi_systems_id}}


def _is_ours(payload: bytes, roi_systems_id: str) -> bool:
    return contains_fields(payload, {"customFields": {ROI_SYSTEMS_ID: roi_systems_id}})
