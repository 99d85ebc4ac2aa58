"""Change records as office staff would, while the sandbox runs."""

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
    """Return the order with one change at `now`: its status, closing cost, closing date or notes."""
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
    """Return the contact with one change at `now`: a phone, the address or the notes."""
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
    """Return the record with only the sent fields changed; objects are merged field by field, a null clears.

    This follows RFC 7396, except that a cleared field stays as null.
    """
    result = dict(record)
    for name, value in fields.items():
        before = result.get(name)
        result[name] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def stamped(record: Record, fields: Record, now: int) -> Record:
    """Return the record with fields merged in and `updatedAt` set to `now` as its last field."""
    result = merged(record, fields)
    result.pop("updatedAt", None)
    return result | {"updatedAt": iso(now)}


def _closing(record: Record, now: int) -> int:
    try:
        return max(now, parse_ms(str(record.get("estimatedClosingDate"))))
    except ValueError:
        return now
