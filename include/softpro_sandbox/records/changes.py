"""Changes as people in an office make them, for records that change while the sandbox runs."""

import random

from softpro_sandbox.clock import DAY_MS, iso, parse_ms
from softpro_sandbox.records import fake_values, word_lists
from softpro_sandbox.records.codec import Record

_NEXT_STATUS = {
    "OPENED": "IN_PROGRESS",
    "IN_PROGRESS": "PENDING_CLOSING",
    "PENDING_CLOSING": "CLOSED",
    "ON_HOLD": "IN_PROGRESS",
}


def change_transaction(record: Record, rng: random.Random, now: int) -> Record:
    """The order with one thing changed at `now`: its progress, its closing cost, its closing date or its notes."""
    draw = rng.random()
    fields: Record
    following = _NEXT_STATUS.get(str(record.get("status")))
    if draw < 0.3 and following is not None:
        fields = {"status": following}
        if following == "CLOSED":
            fields["actualClosingDate"] = iso(now)
    elif draw < 0.5:
        fields = {"closingCost": fake_values.money(rng.randrange(150_000, 3_000_000))}
    elif draw < 0.7:
        fields = {"estimatedClosingDate": iso(_closing(record, now) + rng.randrange(1, 15) * DAY_MS)}
    else:
        fields = {"notes": f"{rng.choice(word_lists.TRANSACTION_NOTES)} [{rng.randrange(100_000, 1_000_000)}]"}
    return stamped(record, fields, now)


def change_contact(record: Record, rng: random.Random, now: int) -> Record:
    """The contact with one thing changed at `now`: a phone, the address or the notes."""
    draw = rng.random()
    city = fake_values.random_city(rng)
    fields: Record
    if draw < 0.4:
        fields = {"mobilePhone": fake_values.phone(rng, city)}
    elif draw < 0.6:
        fields = {"address": fake_values.address(rng, city)}
    else:
        fields = {"notes": f"{rng.choice(word_lists.CONTACT_NOTES)} [{rng.randrange(100_000, 1_000_000)}]"}
    return stamped(record, fields, now)


def merged(record: Record, fields: Record) -> Record:
    """The record with only the fields sent changed; an object is merged field by field, a null clears.

    As RFC 7396, save that a cleared field stays as null instead of going away.
    """
    result = dict(record)
    for name, value in fields.items():
        before = result.get(name)
        result[name] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def stamped(record: Record, fields: Record, now: int) -> Record:
    """The record with fields merged in and `updatedAt` at `now`, which stays its last field."""
    result = merged(record, fields)
    result.pop("updatedAt", None)
    return result | {"updatedAt": iso(now)}


def _closing(record: Record, now: int) -> int:
    try:
        return max(now, parse_ms(str(record.get("estimatedClosingDate"))))
    except ValueError:
        return now
