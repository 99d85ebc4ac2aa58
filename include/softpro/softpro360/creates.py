"""Creates that happen once although their answers get lost.

The vendor has no idempotency key: a POST whose answer was lost may have happened. So every create carries our own id in
`customFields.roiSystemsId` and is written down before it is sent. Where its fate is unknown it is looked for by that
id: no sooner than a record surfaces at the latest after it may have arrived, and a second time as much later; only then
is it sent again. Nobody sleeps meanwhile: the row says when it is due, and whoever wants the record asks again.
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
from softpro.softpro360.client import TRANSFER_SECONDS, Client, Fields, holds
from softpro.softpro360.contract import LAG, LARGEST_PAGE, ROI_SYSTEMS_ID
from softpro.softpro360.records import Record, Unreadable
from softpro.softpro360.transport import CONNECT_SECONDS, EXCHANGE_SECONDS, SILENCE_SECONDS

LOOKUPS = 2
SURFACES_AFTER = LAG + timedelta(seconds=1)
"""What was made is found by then: the vendor's lag, and a second on the way there."""

CREATE_TIMEOUT_SECONDS = 60.0
"""How long a create may wait, for the budget or to be tried again where nothing was done, before it is given up."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CreateSpec:
    """A record to be made. `send` makes it and answers the vendor's id, within `seconds` once it is on its way;
    `find` answers the ids of all records that carry our id."""

    entity_type: str
    roi_systems_id: str
    send: Callable[[Client], str]
    find: Callable[[Client], list[str]]
    order_id: str | None = None
    seconds: float = EXCHANGE_SECONDS


def listed(
    entity_type: EntityType,
    roi_systems_id: str,
    fields: Fields,
    answered: Callable[[Record | Unreadable], None] = lambda record: None,
) -> CreateSpec:
    """A record with these fields; `answered` is told what SoftPro answers to its making, unless that is lost."""
    named = _named(roi_systems_id, fields)

    def send(client: Client) -> str:
        record = client.create(entity_type, named)
        answered(record)
        return str(record.key.id if isinstance(record, Record) else record.entity_id)

    return CreateSpec(
        entity_type.value,
        roi_systems_id,
        send=send,
        find=lambda client: _found(client, entity_type, roi_systems_id),
    )


def party(order_id: str, roi_systems_id: str, fields: Fields) -> CreateSpec:
    """A party of an order with these fields."""
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


def document(
    order_id: str, roi_systems_id: str, file: BinaryIO, file_name: str, mime_type: str, metadata: Fields
) -> CreateSpec:
    """A document of an order; the file is read from its beginning whenever it is sent."""
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
    """The vendor's id of the record, which is made unless it was made before.

    `connection` is in autocommit: what is written down must stand before anything is sent. Raises FateUnknown, with
    the time to ask again, while nobody can tell whether it was made; what `Caller.call` raises where it was not;
    NotFoundHere.
    """
    # The last bytes sent, and the first of the answer, may each take a silence longer than the exchange is given.
    seconds = CREATE_TIMEOUT_SECONDS + CONNECT_SECONDS + wanted.seconds + 2 * SILENCE_SECONDS
    over_in = SURFACES_AFTER + timedelta(seconds=seconds)
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


def made_before(
    connection: Connection, client: Client, integration_id: UUID, entity_type: EntityType, roi_systems_id: str
) -> str | None:
    """SoftPro's id of a record whose making was begun, and which is not wanted any more; None where it was not made.

    Raises FateUnknown while nobody can tell.
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
    """Within it nothing is sent later than PATIENCE_SECONDS from now; a claim made in it outlasts what is sent."""
    deadline = client.deadline
    patience = time.monotonic() + CREATE_TIMEOUT_SECONDS
    client.deadline = patience if deadline is None else min(patience, deadline)
    try:
        yield
    finally:
        client.deadline = deadline


def _look_for(connection: Connection, client: Client, claim: Create, wanted: CreateSpec) -> str | None:
    """The id of the record where it is found; None where it was looked for often enough. Raises FateUnknown."""
    try:
        found = wanted.find(client)
    except SoftProError:
        create_ledger.postpone(connection, claim, timedelta(0), claim.lookups)
        raise
    if found:
        return _made(connection, claim, *found)
    if claim.lookups + 1 < LOOKUPS:
        return create_ledger.postpone(connection, claim, SURFACES_AFTER, claim.lookups + 1).known()
    return None


def _send(connection: Connection, client: Client, claim: Create, wanted: CreateSpec) -> str:
    try:
        softpro_id = wanted.send(client)
    except SoftProError as failed:
        if isinstance(failed, SoftProAPIError) and may_have_happened(failed):
            return create_ledger.postpone(connection, claim, SURFACES_AFTER, 0).known()
        create_ledger.discard(connection, claim)
        raise
    return _made(connection, claim, softpro_id)


def _made(connection: Connection, claim: Create, *found: str) -> str:
    """The id of the record; where there are several, of the one that was written down first."""
    softpro_id = create_ledger.mark_created(connection, claim, found[0])
    there = sorted({softpro_id, *found})
    if len(there) > 1:
        log.warning("created_twice", extra={"entity_type": claim.entity_type, "softpro_ids": there})
    return softpro_id


def _found(client: Client, entity_type: EntityType, roi_systems_id: str) -> list[str]:
    """The search also answers what carries our id in its number or name: ours may be on any page."""
    found: list[str] = []
    offset, more = 0, True
    while more:
        page = client.select(entity_type, {"search": roi_systems_id, "limit": LARGEST_PAGE, "offset": offset})
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
    return holds(payload, {"customFields": {ROI_SYSTEMS_ID: roi_systems_id}})
