"""Keep each record's exact bytes, and read only its key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from softpro.entities import EntityType
from softpro.softpro360.contract import ID_FIELDS
from softpro.timestamps import parse_time

MAX_ID_BYTES = 1_000
"""An entry of a PostgreSQL index holds at most about 2,700 bytes, including the stream's name."""


class Key(NamedTuple):
    """The sort key of lists: `updatedAt`, then the id."""

    updated_at: datetime
    id: str


class _Payload:
    """Bytes that the vendor sent."""

    payload: bytes

    @cached_property
    def payload_hash(self) -> bytes:
        """Return the hash that identifies the version: 16 bytes of BLAKE2b over the bytes as sent."""
        return hashlib.blake2b(self.payload, digest_size=16).digest()


@dataclass(frozen=True)
class Record(_Payload):
    """A record with a readable key, and its payload, byte for byte as the vendor sent it.

    `etag` names the version (RFC 9110 section 8.8.3). Single reads carry one, lists do not.
    """

    key: Key
    payload: bytes
    etag: str | None = None


@dataclass(frozen=True)
class Unreadable(_Payload):
    """A record whose key can't be read, or that can't be stored at all, and the reason."""

    payload: bytes
    reason: str
    entity_id: str | None = None


class _Head(msgspec.Struct):
    """The fields of a record's key, of any type, so that one wrong type does not hide the other field."""

    orderId: Any = None
    contactId: Any = None
    updatedAt: Any = None


_decode_head = msgspec.json.Decoder(_Head).decode


def read(payload: bytes, entity_type: EntityType) -> Record | Unreadable:
    """Read the key of one record of a list or a single read. Never raise: return Unreadable instead."""
    field = ID_FIELDS[entity_type]
    try:
        if not payload.isascii():
            payload.decode()  # decoding the head skips the other fields without a check
        head = _decode_head(payload)
    except UnicodeDecodeError:
        return Unreadable(payload, "the record is not UTF-8")
    except msgspec.ValidationError:
        return Unreadable(payload, "the record is not a JSON object")
    except RecursionError:
        return Unreadable(payload, "the record is nested too deeply")
    except msgspec.DecodeError as broken:
        return Unreadable(payload, f"the record is not JSON: {broken}", _salvaged_id(payload, field))
    entity_id = getattr(head, field)
    if not _is_id(entity_id):
        return Unreadable(payload, f"{field} is missing, or not a text that can be an id")
    if b"\x00" in payload:
        return Unreadable(payload, "the record holds a bare NUL character", entity_id)
    try:
        return Record(Key(parse_time(head.updatedAt), entity_id), payload)
    except (TypeError, ValueError, OverflowError):
        return Unreadable(payload, "updatedAt is missing or is not a timestamp", entity_id)


def _is_id(value: Any) -> bool:
    if not isinstance(value, str) or not value or "\x00" in value:
        return False
    try:
        return len(value.encode()) <= MAX_ID_BYTES
    except UnicodeEncodeError:  # half a surrogate pair
        return False


def _salvaged_id(payload: bytes, field: str) -> str | None:
    """Return the id of a record that a strict reader refuses, so that its case closes once the record is valid."""
    try:
        record = json.loads(payload, strict=False)
    except (ValueError, RecursionError):
        return None
    entity_id = record.get(field) if isinstance(record, dict) else None
    return entity_id if _is_id(entity_id) else None
