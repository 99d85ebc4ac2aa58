"""Refuse keys and secrets that a guess finds, but keep what they encrypted readable during a rotation."""

from __future__ import annotations

import secrets
from uuid import UUID

import pytest

from softpro.db.database import Database
from softpro.db.encryption import Place, Vault
from softpro.errors import SettingsError
from softpro.settings import EncryptionSettings, WebhookSettings, load

from ..support.databases import one
from ..support.product import command, connect_acme, environment
from ..support.sandbox import Sandbox

PLACE = Place("softpro.integrations", "client_secret", UUID(int=1))
WEAK_KEYS = {
    "spaces": " " * 32,
    "zeros in hex": "0" * 64,
    "zeros in base64": f"{'A' * 43}=",
    "a repeated word": "password" * 4,
    "two alternating words": "secretsecretsecretsecretsecretse",
    "a repeated half": "abcdefghijklmnop" * 2,
    "a repeated half in hex": "00112233445566778899aabbccddeeff" * 2,
    "little variety": "1234567890" * 3 + "12",
    "hex of 16 bytes": "9f86d081884c7d659a2feaa0c55ad015",
}
WEAK_SECRETS = {
    "short": "s3cret",
    "one character": "x" * 40,
    "a repeated word": "changeme" * 4,
    "digits": "1234567" * 5,
}
STRONG = secrets.token_hex(32)


@pytest.mark.parametrize("key", WEAK_KEYS.values(), ids=WEAK_KEYS)
def test_a_weak_key_does_not_encrypt(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    for written in (key, f"{key},{STRONG}"):
        monkeypatch.setenv("INTEGRATION_ENCRYPTION_KEY", written)
        with pytest.raises(SettingsError, match="INTEGRATION_ENCRYPTION_KEY is wrong: it should be") as refused:
            load(EncryptionSettings)
        assert key not in str(refused.value)


@pytest.mark.parametrize("key", [value if value.strip() else value.encode().hex() for value in WEAK_KEYS.values()])
def test_a_weak_key_still_decrypts_while_it_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    monkeypatch.setenv("INTEGRATION_ENCRYPTION_KEY", f"{STRONG},{key}")
    new, old = load(EncryptionSettings)[0].keys
    assert Vault((new, old)).open(Vault((old,)).seal("a token", PLACE), PLACE) == "a token"
    assert "INTEGRATION_ENCRYPTION_KEY: number 2 is weak" in caplog.text
    assert key not in caplog.text


@pytest.mark.parametrize("secret", WEAK_SECRETS.values(), ids=WEAK_SECRETS)
def test_a_weak_webhook_secret_is_refused_except_while_it_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    monkeypatch.setenv("SOFTPRO_WEBHOOK_SECRET", secret)
    with pytest.raises(SettingsError, match="SOFTPRO_WEBHOOK_SECRET is wrong: it should") as refused:
        load(WebhookSettings)
    assert secret not in str(refused.value)
    monkeypatch.setenv("SOFTPRO_WEBHOOK_SECRET", f"{STRONG},{secret}")
    assert load(WebhookSettings)[0].secrets == (STRONG.encode(), secret.encode())
    assert "SOFTPRO_WEBHOOK_SECRET: number 2 is weak" in caplog.text


def test_random_keys_are_never_taken_as_weak(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2_000):
        monkeypatch.setenv("INTEGRATION_ENCRYPTION_KEY", secrets.token_hex(32))
        monkeypatch.setenv("SOFTPRO_WEBHOOK_SECRET", secrets.token_urlsafe(24))
        load(EncryptionSettings, WebhookSettings)


def test_an_installation_with_a_weak_key_leaves_it(
    database: Database, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = "password" * 4
    connect_acme(database, sandbox, INTEGRATION_ENCRYPTION_KEY=STRONG)
    with database.connect() as connection:  # as an earlier version stored it
        [row] = connection.execute("select id, client_secret from softpro.integrations")
        place = Place("softpro.integrations", "client_secret", row["id"])
        secret = Vault((bytes.fromhex(STRONG),)).open(row["client_secret"], place)
        sealed = Vault((weak.encode(),)).seal(secret, place)
        connection.execute("update softpro.integrations set client_secret = %s", [sealed])
    settings = environment(database, sandbox, INTEGRATION_ENCRYPTION_KEY=weak)
    assert command(settings, "rotate-keys").code == 2
    settings["INTEGRATION_ENCRYPTION_KEY"] = f"{STRONG},{weak}"
    assert command(settings, "rotate-keys").code == 0
    settings["INTEGRATION_ENCRYPTION_KEY"] = STRONG
    assert command(settings, "sync", "acme", "--entity", "contacts").code == 0
    assert one(database, "select client_secret from softpro.integrations") != sealed
