"""Check that a delivery was signed by SoftPro, parse it, and check its age. Pure: no I/O, no clock."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

import msgspec

from softpro.errors import UsageError
from softpro.timestamps import parse_time

TIMESTAMP_TOLERANCE = timedelta(minutes=5)
"""The largest distance of a new event's timestamp from now, either way. A stored event may be repeated later."""

MAX_BODY_BYTES = 1_000_000
"""Bytes."""

MAX_TEXT_CHARACTERS = 256
"""The most characters of an id or a type."""

ID_FIELDS = {"TRANSACTION": "orderId", "CONTACT": "contactId", "DOCUMENT": "documentId"}
"""The entity types that events are about, with the field that holds the id of such a record."""

TEXT_FIELDS = ("id", "type", "organizationId", "entityType", "entityId")
SHAPE = (
    "an event is a JSON object with id, type, timestamp, organizationId, entityType "
    f"({', '.join(ID_FIELDS)}) and entityId"
)


class MalformedEvent(UsageError):
    """The body is signed but is not an event."""


@dataclass(frozen=True)
class Event:
    """An event as its body describes it.

    Attributes:
        type: the specification's name, e.g. TRANSACTION_STATUS_CHANGED.
        organization: SoftPro's own id of the organization.
        record_updated_at: the `updatedAt` of the record that the event carries, or None.
        payload: the body.
        bare: the body without `data` and unknown fields, stored if jsonb refuses the payload.
    """

    id: str
    type: str
    timestamp: datetime
    organization: str
    entity_type: str
    entity_id: str
    record_updated_at: datetime | None
    payload: str
    bare: str

    @property
    def priority(self) -> int:
        """Return 0 for an event about a status or a closing, which is processed first, and 1 for any other."""
        return 0 if self.type.endswith("STATUS_CHANGED") or self.type in ("ORDER_CLOSED", "ORDER_REOPENED") else 1


def is_signed(body: bytes, signature: str | None, secrets: Sequence[bytes]) -> bool:
    """Return whether the signature is the lower-case hex HMAC-SHA256 (RFC 2104) of the raw body under a secret.

    All secrets are tried, each in constant time, so that the duration reveals nothing. Without a secret, nothing is
    signed.
    """
    given = (signature or "").encode(errors="surrogateescape")
    matches = [
        hmac.compare_digest(hmac.new(secret, body, hashlib.sha256).hexdigest().encode(), given) for secret in secrets
    ]
    return any(matches)


def is_timely(timestamp: datetime, now: datetime) -> bool:
    """Return whether an event of this timestamp may arrive for the first time at `now`."""
    return abs(now - timestamp) <= TIMESTAMP_TOLERANCE


def parse(body: bytes) -> Event:
    """Return the event in a body, keeping unknown types and fields. Raises MalformedEvent."""
    try:
        payload = body.decode()
        # msgspec would refuse half a surrogate pair, which `data` may hold.
        sent = json.loads(payload, parse_int=float, parse_constant=_refuse)
    except RecursionError:
        raise MalformedEvent("The body is nested too deeply") from None
    except ValueError:
        raise MalformedEvent("The body is not JSON") from None
    if not isinstance(sent, dict) or "\x00" in payload:
        raise MalformedEvent(f"The body is not an event: {SHAPE}")
    event_id, kind, organization, entity_type, entity_id = (_text(sent, name) for name in TEXT_FIELDS)
    if entity_type not in ID_FIELDS:
        raise MalformedEvent(f"entityType is unknown: {SHAPE}")
    timestamp = _moment(sent.get("timestamp"))
    if timestamp is None:
        raise MalformedEvent(f"timestamp is missing or is not a timestamp: {SHAPE}")
    name = kind.replace(".", "_").upper()
    return Event(
        id=event_id,
        type=name,
        timestamp=timestamp,
        organization=organization,
        entity_type=entity_type,
        entity_id=entity_id,
        record_updated_at=_record_updated_at(name, entity_type, entity_id, sent.get("data")),
        payload=payload,
        bare=msgspec.json.encode({name: sent[name] for name in (*TEXT_FIELDS, "timestamp")}).decode(),
    )


def _record_updated_at(name: str, entity_type: str, entity_id: str, data: Any) -> datetime | None:
    """Return the `updatedAt` of the record that the event carries, if it is the event's own record.

    An order's event can carry a party or a property, which also holds the order's id but is not the record.
    """
    if name.endswith("_DELETED") or name.startswith(("PARTY_", "PROPERTY_")):
        return None
    if not isinstance(data, dict) or data.get(ID_FIELDS[entity_type]) != entity_id:
        return None
    return _moment(data.get("updatedAt"))


def _text(sent: dict[str, Any], name: str) -> str:
    value = sent.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT_CHARACTERS or not value.isprintable():
        raise MalformedEvent(f"{name} is missing, or not 1 to {MAX_TEXT_CHARACTERS} visible characters: {SHAPE}")
    return value


def _moment(value: Any) -> datetime | None:
    try:
        return parse_time(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _refuse(constant: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python reads but JSON does not allow."""
    raise ValueError(constant)
