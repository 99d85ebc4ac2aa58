"""Encode an event for delivery: its id, body and signature (contract, Webhooks)."""

import hashlib
import hmac
import random
import uuid
from dataclasses import dataclass

import msgspec

from softpro_sandbox.clock import iso

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """An event with an id that stays the same on every delivery. `data` is JSON bytes."""

    event_id: str
    type: str
    organization_id: str
    entity_type: str
    entity_id: str
    data: bytes


def new_event_id(rng: random.Random, now: int) -> str:
    """Return a new id in the format of a ULID: 48 bits of milliseconds and 80 random bits."""
    number = (now << 80) | rng.getrandbits(80)
    return "evt_" + "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))


def encode_body(event: WebhookEvent, now: int) -> bytes:
    """Return the raw body of a delivery at `now`, in milliseconds of the vendor's clock."""
    return msgspec.json.encode(
        {
            "id": event.event_id,
            "type": event.type,
            "timestamp": iso(now),
            "organizationId": event.organization_id,
            "entityType": event.entity_type,
            "entityId": event.entity_id,
            "data": msgspec.Raw(event.data),
        }
    )


def sign(secret: str, body: bytes) -> str:
    """Return the lower-case hex HMAC-SHA256 of the raw body."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def headers(secret: str, body: bytes) -> dict[str, str]:
    """Return the headers of one attempt; `X-SoftPro-Delivery` is new on each."""
    return {
        "Content-Type": "application/json",
        "X-SoftPro-Signature": sign(secret, body),
        "X-SoftPro-Delivery": str(uuid.uuid4()),
    }
