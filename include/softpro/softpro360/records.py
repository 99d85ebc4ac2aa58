"""The vendor's records at the edge: each kept as its exact bytes, read only as far as its key."""

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

LONGEST_ID = 1_000
"""Bytes; an index of PostgreSQL holds no more than about 2,700, the stream's name included."""


class Key(NamedTuple):
    """The order of lists: `updatedAt`, ties by id."""

    updated_at: datetime
    id: str


class _Sent:
    """Bytes that the vendor sent."""

    payload: bytes

    @cached_property
    def payload_hash(self) -> bytes:
        """What tells one version of a record from another: 16 bytes of BLAKE2b over the bytes as sent."""
        return hashlib.blake2b(self.payload, digest_size=16).digest()


@dataclass(frozen=True)
class Record(_Sent):
    """A record that can be placed: its key and its payload, byte for byte as the vendor sent it.

    `etag` names the version (RFC 9110 section 8.8.3); single reads carry one, lists do not.
    """

    key: Key
    payload: bytes
    etag: str | None = None


@dataclass(frozen=True)
class Unreadable(_Sent):
    """A record that can't be placed, or not stored at all, and why."""

    payload: bytes
    reason: str
    entity_id: str | None = None


class _Head(msgspec.Struct):
    """The fields of a record that place it; the raw values, so that one wrong type does not hide the other."""

    orderId: Any = None
    contactId: Any = None
    updatedAt: Any = None


_decode_head = msgspec.json.Decoder(_Head).decode


def read(payload: bytes, entity_type: EntityType) -> Record | Unreadable:
    """Places one record of a list or a single read. Never raises: what can't be placed comes back as Unreadable."""
    field = ID_FIELDS[entity_type]
    try:
        if not payload.isascii():
            payload.decode()  # what the head does not hold is skipped, whatever it is
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
        return len(value.encode()) <= LONGEST_ID
    except UnicodeEncodeError:  # half a surrogate pair
        return False


def _salvaged_id(payload: bytes, field: str) -> str | None:
    """The id of a record that a strict reader refuses, so that its case closes once the record is good."""
    try:
        record = json.loads(payload, strict=False)
    except (ValueError, RecursionError):
        return None
    entity_id = record.get(field) if isinstance(record, dict) else None
    return entity_id if _is_id(entity_id) else None
