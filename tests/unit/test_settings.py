"""Report all missing and wrong settings at once, with their expected form."""

from __future__ import annotations

import base64

import pytest

from softpro import settings
from softpro.errors import SettingsError
from softpro.settings import (
    CredentialSettings,
    EncryptionSettings,
    OAuthSettings,
    ReconcileSettings,
    SyncSettings,
    VendorSettings,
    load,
    parse_keys,
)

TEXT_KEY = "thirty-two characters of a text!"
BYTES = bytes(range(32))


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INTEGRATION_ENCRYPTION_KEY", "SOFTPRO_CLIENT_ID", "SOFTPRO_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)


def test_everything_missing_or_wrong_is_named_at_once_with_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTPRO_SYNC_BATCH_SIZE", "201")
    monkeypatch.setenv("SOFTPRO_SYNC_INTERVAL", "soon")
    monkeypatch.setenv("SOFTPRO_OAUTH_TOKEN_URL", "http://auth.example.com/token")
    monkeypatch.setenv("SOFTPRO_MAX_RETRIES", "-1")
    with pytest.raises(SettingsError) as wrong:
        load(EncryptionSettings, OAuthSettings, VendorSettings, SyncSettings)
    assert wrong.value.problems == [
        "INTEGRATION_ENCRYPTION_KEY is not set; it should be 32 bytes: "
        "32 characters of text, 64 of hex, or 44 of base64",
        "SOFTPRO_OAUTH_TOKEN_URL is wrong: it should start with https:// (plain http is for loopback addresses only)",
        "SOFTPRO_MAX_RETRIES is wrong: it should be a whole number, 0 to 20",
        "SOFTPRO_SYNC_BATCH_SIZE is wrong: it should be a whole number, 1 to 200",
        "SOFTPRO_SYNC_INTERVAL is wrong: it should be seconds, a whole number from 60 to 604800",
    ]


def test_the_limits_of_a_delete_are_a_percentage_and_a_number_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    (usual,) = load(ReconcileSettings)
    assert (usual.percent, usual.records) == (5, 500)
    monkeypatch.setenv("SOFTPRO_DELETE_LIMIT_PERCENT", "0.5")
    monkeypatch.setenv("SOFTPRO_DELETE_LIMIT_RECORDS", "0")
    (strict,) = load(ReconcileSettings)
    assert (strict.percent, strict.records) == (0.5, 0)
    monkeypatch.setenv("SOFTPRO_DELETE_LIMIT_PERCENT", "101")
    monkeypatch.setenv("SOFTPRO_DELETE_LIMIT_RECORDS", "half")
    with pytest.raises(SettingsError) as wrong:
        load(ReconcileSettings)
    assert wrong.value.problems == [
        "SOFTPRO_DELETE_LIMIT_PERCENT is wrong: it should be a percentage of a stream's records, 0 to 100",
        "SOFTPRO_DELETE_LIMIT_RECORDS is wrong: it should be a whole number, 0 or more",
    ]


def test_a_command_asks_only_for_the_groups_it_uses() -> None:
    (sync,) = load(SyncSettings)
    assert (sync.batch_size, sync.interval) == (50, 300)


def test_every_wrong_setting_is_reported_with_its_expected_form(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = settings.Group.__subclasses__()
    for group in groups:
        for field in group.model_fields.values():
            monkeypatch.setenv(str(field.alias), " ")
    problems = [problem for group in groups for problem in problems_of(group)]
    assert len(problems) == 22
    assert all(" is wrong: it should " in problem and "None" not in problem for problem in problems)


def problems_of(group: type[settings.Group]) -> list[str]:
    try:
        load(group)
    except SettingsError as wrong:
        return wrong.problems
    return []


@pytest.mark.parametrize("name", ["SOFTPRO_CLIENT_ID", "SOFTPRO_CLIENT_SECRET"])
def test_an_empty_credential_is_as_bad_as_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SOFTPRO_CLIENT_ID", "an id")
    monkeypatch.setenv("SOFTPRO_CLIENT_SECRET", "a secret")
    monkeypatch.setenv(name, "")
    with pytest.raises(SettingsError, match=name):
        load(CredentialSettings)


@pytest.mark.parametrize(
    ("written", "keys"),
    [
        (TEXT_KEY, (TEXT_KEY.encode(),)),
        (BYTES.hex(), (BYTES,)),
        (BYTES.hex().upper(), (BYTES,)),
        (base64.b64encode(BYTES).decode(), (BYTES,)),
        (f"{TEXT_KEY}, {BYTES.hex()},{base64.b64encode(BYTES).decode()}", (TEXT_KEY.encode(), BYTES, BYTES)),
        ("a comma, and still 32 characters", (b"a comma, and still 32 characters",)),
    ],
)
def test_a_key_is_text_hex_or_base64_and_there_may_be_several(written: str, keys: tuple[bytes, ...]) -> None:
    assert parse_keys(written) == keys


@pytest.mark.parametrize(
    "written",
    [
        "",
        "short-key-zq",
        "zq" * 32,
        "!" * 44,
        f"{TEXT_KEY},short-key-zq",
        f"{TEXT_KEY},",
        "ü" * 32,
        "zq-33-characters-of-text-are-many",
    ],
)
def test_a_wrong_key_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("INTEGRATION_ENCRYPTION_KEY", written)
    with pytest.raises(
        SettingsError, match="should be 32 bytes: 32 characters of text, 64 of hex, or 44 of base64"
    ) as e:
        load(EncryptionSettings)
    assert "zq" not in str(e.value)
    assert TEXT_KEY not in str(e.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:8080/x",
        "http://127.0.0.1/x",
        "http://127.8.9.10/x",
        "http://[::1]:1/x",
        "https://example.com/x",
    ],
)
def test_https_anywhere_and_http_to_loopback_are_accepted(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("SOFTPRO_SANDBOX_BASE_URL", address)
    (vendor,) = load(VendorSettings)
    assert vendor.sandbox_base_url == address


@pytest.mark.parametrize(
    "address",
    [
        "http://example.com/x",
        "http://localhost.example.com/x",
        "http://127.0.0.1.nip.io/x",
        "http://10.0.0.1/x",
        "ftp://localhost/x",
        "localhost:8080",
        "https://",
        "https://user:zq-password@example.com/x",
        "https://example.com/x#fragment",
        "",
    ],
)
def test_any_other_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("SOFTPRO_OAUTH_REVOKE_URL", address)
    with pytest.raises(SettingsError, match=r"^SOFTPRO_OAUTH_REVOKE_URL is wrong: it should ") as wrong:
        load(OAuthSettings)
    assert "zq-password" not in str(wrong.value)


def test_secrets_are_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTEGRATION_ENCRYPTION_KEY", TEXT_KEY)
    monkeypatch.setenv("SOFTPRO_CLIENT_ID", "an id")
    monkeypatch.setenv("SOFTPRO_CLIENT_SECRET", "zq-secret")
    monkeypatch.setenv("SOFTPRO_DATABASE_URL", "postgresql://me:zq-password@host/database")
    shown = repr((load(EncryptionSettings, CredentialSettings), load(settings.DatabaseSettings)))
    assert "zq-" not in shown
    assert TEXT_KEY not in shown
