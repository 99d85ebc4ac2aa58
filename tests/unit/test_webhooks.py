"""Verify and parse webhook deliveries: signature, content and age."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softpro.errors import SettingsError
from softpro.settings import WebhookSettings, load
from softpro.webhooks.verify import (
    MAX_TEXT_CHARACTERS,
    TIMESTAMP_TOLERANCE,
    MalformedEvent,
    is_signed,
    is_timely,
    parse,
)

NOW = datetime(2025, 3, 1, 17, 4, 5, tzinfo=UTC)
ORDER = {"orderId": "ord-1", "status": "CLOSED", "updatedAt": "2025-03-01T17:04:05.123Z"}
EVENT: dict[str, Any] = {
    "id": "evt_01",
    "type": "transaction.status_changed",
    "timestamp": "2025-03-01T17:04:05.123Z",
    "organizationId": "org-1",
    "entityType": "TRANSACTION",
    "entityId": "ord-1",
    "data": ORDER,
}


def body(**changes: Any) -> bytes:
    return json.dumps(EVENT | changes).encode()


def signature(secret: bytes, of: bytes) -> str:
    return hmac.new(secret, of, hashlib.sha256).hexdigest()


@given(of=st.binary(max_size=200), secrets=st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=2))
def test_a_body_is_signed_under_any_of_the_secrets(of: bytes, secrets: list[bytes]) -> None:
    assert all(is_signed(of, signature(secret, of), secrets) for secret in secrets)


@given(of=st.binary(max_size=200), at=st.integers(0, 199), bit=st.integers(0, 7))
def test_a_body_of_which_one_bit_was_changed_is_not_signed(of: bytes, at: int, bit: int) -> None:
    signed = signature(b"secret", of)
    forged = bytearray(of or b"\0")
    forged[at % len(forged)] ^= 1 << bit
    assert not is_signed(bytes(forged), signed, [b"secret"])


@given(given_signature=st.none() | st.text(max_size=80))
def test_any_other_signature_is_refused_and_none_raises(given_signature: str | None) -> None:
    assert not is_signed(b"{}", given_signature, [b"secret", b"other"])


def test_nothing_is_signed_by_another_secret_in_upper_case_or_without_a_secret() -> None:
    signed = signature(b"secret", b"{}")
    assert not is_signed(b"{}", signed, [b"other"])
    assert not is_signed(b"{}", signed.upper(), [b"secret"])
    assert not is_signed(b"{}", signature(b"", b"{}"), [])


@given(seconds=st.floats(-900, 900))
def test_an_event_is_timely_for_five_minutes_either_way(seconds: float) -> None:
    off = timedelta(seconds=seconds)
    assert is_timely(NOW + off, NOW) is (abs(off) <= TIMESTAMP_TOLERANCE)


def test_an_event_is_read_with_the_specifications_name_of_its_type() -> None:
    event = parse(body())

    assert (event.id, event.type, event.organization) == ("evt_01", "TRANSACTION_STATUS_CHANGED", "org-1")
    assert (event.entity_type, event.entity_id) == ("TRANSACTION", "ord-1")
    assert event.timestamp == event.record_updated_at == NOW + timedelta(milliseconds=123)
    assert event.payload == body().decode()
    assert json.loads(event.bare) == {name: value for name, value in EVENT.items() if name != "data"}


@pytest.mark.parametrize(
    ("kind", "priority"),
    [
        ("transaction.status_changed", 0),
        ("status.changed", 0),
        ("order.closed", 0),
        ("order.reopened", 0),
        ("transaction.updated", 1),
        ("party.added", 1),
        ("something.new", 1),
    ],
)
def test_status_and_closing_events_come_first(kind: str, priority: int) -> None:
    assert parse(body(type=kind)).priority == priority


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "transaction.deleted"},
        {"type": "party.updated", "data": {**ORDER, "partyId": "p-1"}},
        {"type": "property.updated", "data": {**ORDER, "propertyId": "p-1"}},
        {"data": {"orderId": "ord-1"}},
        {"data": {**ORDER, "orderId": "ord-2"}},
        {"data": {**ORDER, "updatedAt": "yesterday"}},
        {"data": {**ORDER, "updatedAt": 7}},
        {"data": {**ORDER, "updatedAt": "0001-01-01T00:00:00+23:59"}},
        {"data": [ORDER]},
        {"data": None},
        {"entityType": "CONTACT"},
    ],
)
def test_only_an_existing_record_names_its_version(changes: dict[str, Any]) -> None:
    assert parse(body(**changes)).record_updated_at is None


def test_a_contact_or_document_says_so_too() -> None:
    contact = {"contactId": "con-1", "updatedAt": "2025-03-01T17:04:05Z"}
    event = parse(body(type="contact.created", entityType="CONTACT", entityId="con-1", data=contact))
    assert (event.type, event.record_updated_at) == ("CONTACT_CREATED", NOW)


def test_unknown_types_and_fields_are_kept() -> None:
    event = parse(body(type="Order.Split-In-Two", flavour={"a": [1.10, None]}))
    assert event.type == "ORDER_SPLIT-IN-TWO"
    assert '"flavour": {"a": [1.1, null]}' in event.payload


@pytest.mark.parametrize("data", [r'"\ud800"', r'"\u0000"', "1" * 5_000, "1e999999", "[" * 200 + "]" * 200])
def test_data_that_a_database_may_refuse_does_not_hide_the_event(data: str) -> None:
    event = parse(body().replace(json.dumps(ORDER).encode(), data.encode()))
    assert (event.id, "data" in json.loads(event.bare)) == ("evt_01", False)


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: None} for name in EVENT if name != "data"),
        *({name: 5} for name in EVENT if name != "data"),
        {"id": ""},
        {"id": "x" * (MAX_TEXT_CHARACTERS + 1)},
        {"id": "evt\u0000"},
        {"entityId": "a\nb"},
        {"entityId": "\ud800"},
        {"entityType": "PARTY"},
        {"timestamp": "soon"},
    ],
)
def test_a_shape_that_is_no_event_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MalformedEvent):
        parse(body(**wrong))


@pytest.mark.parametrize(
    "broken",
    [b"", b"{", b"[]", b'"evt"', b"null", b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000, body()[:-1], body() + b"\0"],
)
def test_a_body_that_is_no_event_is_refused(broken: bytes) -> None:
    with pytest.raises(MalformedEvent):
        parse(broken)


def test_nan_is_no_json() -> None:
    with pytest.raises(MalformedEvent):
        parse(body(data=float("nan")))


@given(st.binary(max_size=300) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_every_body_is_an_event_or_malformed(sent: bytes) -> None:
    with pytest.raises(MalformedEvent):
        parse(sent)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.none() | st.integers() | st.text() | st.just(value) | st.dictionaries(st.text(), st.text())
            for name, value in EVENT.items()
        },
    )
)
def test_an_event_never_comes_out_with_an_id_that_can_not_be_stored(changes: dict[str, Any]) -> None:
    try:
        event = parse(body(**changes))
    except MalformedEvent:
        return
    for text in (event.id, event.type, event.organization, event.entity_id, event.payload, event.bare):
        assert "\0" not in text.encode().decode()


STRONG = "a secret for webhooks 4711"


def secrets(value: str | None, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, ...]:
    monkeypatch.delenv("SOFTPRO_WEBHOOK_SECRET", raising=False)
    if value is not None:
        monkeypatch.setenv("SOFTPRO_WEBHOOK_SECRET", value)
    (settings,) = load(WebhookSettings)
    return settings.secrets


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, ()), (" ", ()), (STRONG, (STRONG.encode(),)), (f"{STRONG}, old", (STRONG.encode(), b"old"))],
)
def test_two_secrets_are_good_while_one_is_changed(
    value: str | None, expected: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert secrets(value, monkeypatch) == expected


@pytest.mark.parametrize("value", ["a,", ",a", "a,b,c"])
def test_an_empty_secret_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="SOFTPRO_WEBHOOK_SECRET is wrong: it should be one secret"):
        secrets(value, monkeypatch)
