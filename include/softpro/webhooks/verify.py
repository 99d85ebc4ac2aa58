"""What came to the receiver: is it SoftPro's, what does it say, is it new enough. Pure: no I/O, no clock."""

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

WINDOW = timedelta(minutes=5)
"""How far the timestamp of an event may be from now, either way; one that is stored may come again later."""

LARGEST_BODY = 1_000_000
"""Bytes."""

LONGEST_TEXT = 256
"""Characters of an id, or of a type."""

ID_FIELDS = {"TRANSACTION": "orderId", "CONTACT": "contactId", "DOCUMENT": "documentId"}
"""The entity types that events are about, and where each one's record has its id."""

TEXTS = ("id", "type", "organizationId", "entityType", "entityId")
SHAPE = (
    "an event is a JSON object with id, type, timestamp, organizationId, entityType "
    f"({', '.join(ID_FIELDS)}) and entityId"
)


class Malformed(UsageError):
    """The body is signed, and is no event."""


@dataclass(frozen=True)
class Event:
    """An event as its body says it. `payload` is the body; `bare` the same without `data` and unknown fields, for a
    database that refuses what stands in them.

    `type` is the specification's name, e.g. TRANSACTION_STATUS_CHANGED; `organization` the vendor's own id.
    `record_updated_at`: the `updatedAt` of the record that it carries, None where it carries none.
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
        """0: about a status, or a closing, and worked on first; 1: any other."""
        return 0 if self.type.endswith("STATUS_CHANGED") or self.type in ("ORDER_CLOSED", "ORDER_REOPENED") else 1


def is_signed(body: bytes, signature: str | None, secrets: Sequence[bytes]) -> bool:
    """Whether the signature is the lower-case hex HMAC-SHA256 (RFC 2104) of the raw body under one of the secrets.

    All are tried, in constant time, so that the time it takes tells nothing. Without a secret nothing is signed.
    """
    given = (signature or "").encode(errors="surrogateescape")
    fits = [
        hmac.compare_digest(hmac.new(secret, body, hashlib.sha256).hexdigest().encode(), given) for secret in secrets
    ]
    return any(fits)


def is_timely(timestamp: datetime, now: datetime) -> bool:
    """Whether an event of this timestamp may come for the first time at `now`."""
    return abs(now - timestamp) <= WINDOW


def parse(body: bytes) -> Event:
    """The event in a body. Types and fields that are not known are kept. Raises Malformed."""
    try:
        payload = body.decode()
        # Not msgspec: it refuses half a surrogate pair, which `data` may hold.
        sent = json.loads(payload, parse_int=float, parse_constant=_refuse)
    except RecursionError:
        raise Malformed("The body is nested too deeply") from None
    except ValueError:
        raise Malformed("The body is not JSON") from None
    if not isinstance(sent, dict) or "\x00" in payload:
        raise Malformed(f"The body is no event: {SHAPE}")
    event_id, kind, organization, entity_type, entity_id = (_text(sent, name) for name in TEXTS)
    if entity_type not in ID_FIELDS:
        raise Malformed(f"entityType is unknown: {SHAPE}")
    timestamp = _moment(sent.get("timestamp"))
    if timestamp is None:
        raise Malformed(f"timestamp is missing, or no timestamp: {SHAPE}")
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
        bare=msgspec.json.encode({name: sent[name] for name in (*TEXTS, "timestamp")}).decode(),
    )


def _record_updated_at(name: str, entity_type: str, entity_id: str, data: Any) -> datetime | None:
    """A party or a property, which the event of an order can carry, also holds the order's id."""
    if name.endswith("_DELETED") or name.startswith(("PARTY_", "PROPERTY_")):
        return None
    if not isinstance(data, dict) or data.get(ID_FIELDS[entity_type]) != entity_id:
        return None
    return _moment(data.get("updatedAt"))


def _text(sent: dict[str, Any], name: str) -> str:
    value = sent.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_TEXT or not value.isprintable():
        raise Malformed(f"{name} is missing, or not 1 to {LONGEST_TEXT} visible characters: {SHAPE}")
    return value


def _moment(value: Any) -> datetime | None:
    try:
        return parse_time(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _refuse(constant: str) -> NoReturn:
    """NaN and the like, which Python reads and JSON does not have."""
    raise ValueError(constant)
