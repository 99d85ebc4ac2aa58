"""Read the vendor's records: placed by their key, kept byte for byte, and never raising."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softpro.entities import EntityType
from softpro.softpro360.records import Key, Record, Unreadable, read

AT = "2025-03-01T17:04:05.123Z"
GOOD = b'{ "orderId": "ord-1",\t"updatedAt": "2025-03-01T17:04:05.123Z", "purchasePrice": 0.10, "new": [] }'


def test_a_record_is_placed_by_its_key_and_kept_as_sent() -> None:
    when = datetime(2025, 3, 1, 17, 4, 5, 123_000, UTC)
    assert read(GOOD, EntityType.TRANSACTION) == Record(Key(when, "ord-1"), GOOD)


def test_each_entity_has_its_own_id_field() -> None:
    contact = b'{"contactId": "con-1", "orderId": "ord-1", "updatedAt": "2025-03-01T17:04:05.123Z"}'
    record = read(contact, EntityType.CONTACT)
    assert isinstance(record, Record)
    assert record.key.id == "con-1"


@pytest.mark.parametrize(
    ("payload", "reason", "entity_id"),
    [
        (f'{{"updatedAt": "{AT}"}}', "orderId is missing, or not a text that can be an id", None),
        (f'{{"orderId": null, "updatedAt": "{AT}"}}', "orderId is missing, or not a text that can be an id", None),
        (f'{{"orderId": "", "updatedAt": "{AT}"}}', "orderId is missing, or not a text that can be an id", None),
        (f'{{"orderId": 7, "updatedAt": "{AT}"}}', "orderId is missing, or not a text that can be an id", None),
        (f'{{"orderId": ["a"], "updatedAt": "{AT}"}}', "orderId is missing, or not a text that can be an id", None),
        (
            f'{{"orderId": "a\\u0000", "updatedAt": "{AT}"}}',
            "orderId is missing, or not a text that can be an id",
            None,
        ),
        (f'{{"orderId": "{"a" * 1001}"}}', "orderId is missing, or not a text that can be an id", None),
        ('{"orderId": "a"}', "updatedAt is missing or is not a timestamp", "a"),
        ('{"orderId": "a", "updatedAt": null}', "updatedAt is missing or is not a timestamp", "a"),
        ('{"orderId": "a", "updatedAt": 1740848645}', "updatedAt is missing or is not a timestamp", "a"),
        ('{"orderId": "a", "updatedAt": {"at": 1}}', "updatedAt is missing or is not a timestamp", "a"),
        ('{"orderId": "a", "updatedAt": "yesterday"}', "updatedAt is missing or is not a timestamp", "a"),
        ('{"orderId": "a", "updatedAt": "2025-02-30T00:00:00Z"}', "updatedAt is missing or is not a timestamp", "a"),
        (
            '{"orderId": "a", "updatedAt": "0001-01-01T00:00:00+10:00"}',
            "updatedAt is missing or is not a timestamp",
            "a",
        ),
        ("[]", "the record is not a JSON object", None),
        ('"ord-1"', "the record is not a JSON object", None),
        ("null", "the record is not a JSON object", None),
    ],
)
def test_a_record_that_cannot_be_placed_says_why(payload: str, reason: str, entity_id: str | None) -> None:
    sent = payload.encode()
    assert read(sent, EntityType.TRANSACTION) == Unreadable(sent, reason, entity_id)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\xff\xfe", "the record is not UTF-8"),
        (b'{"orderId": "\xe9"}', "the record is not UTF-8"),
        (b"", "the record is not JSON"),
        (b'{"orderId": "a"', "the record is not JSON"),
        (b'{"orderId": "a"} x', "the record is not JSON"),
        (b'{"orderId": "a\x00"}', "the record is not JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "the record is nested too deeply"),
    ],
)
def test_invalid_json_is_unreadable(payload: bytes, reason: str) -> None:
    record = read(payload, EntityType.TRANSACTION)
    assert isinstance(record, Unreadable)
    assert record.payload == payload
    assert record.reason.startswith(reason)


@pytest.mark.parametrize("odd", [rb'"\ud800"', rb'"\udc00 and more"', b"NaN", b'"\x01"'])
def test_a_record_that_strict_parsers_refuse_still_has_its_id(odd: bytes) -> None:
    record = read(b'{"orderId": "ord-1", "notes": %s}' % odd, EntityType.TRANSACTION)
    assert isinstance(record, Unreadable)
    assert record.entity_id == "ord-1"


@given(st.binary())
def test_no_bytes_at_all_make_it_raise(payload: bytes) -> None:
    assert read(payload, EntityType.CONTACT).payload == payload
