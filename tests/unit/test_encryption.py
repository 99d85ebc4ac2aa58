"""Encrypt secrets at rest with AES-256-GCM, bound to their row and column (promise 10)."""

from __future__ import annotations

import base64
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softpro.db.encryption import Place, Vault
from softpro.errors import DecryptionError

OLD, NEW = b"o" * 32, b"n" * 32
ROW, OTHER_ROW = UUID(int=1), UUID(int=2)
HERE = Place("softpro.integrations", "access_token", ROW)


@given(st.text().filter(lambda text: text.encode(errors="ignore").decode() == text))
def test_a_sealed_secret_opens_again(secret: str) -> None:
    vault = Vault((OLD,))
    assert vault.open(vault.seal(secret, HERE), HERE) == secret


def test_the_same_secret_never_looks_the_same_twice() -> None:
    vault = Vault((OLD,))
    assert len({vault.seal("token", HERE) for _ in range(50)}) == 50


def test_another_key_does_not_open_it_and_the_error_says_what_to_do() -> None:
    sealed = Vault((OLD,)).seal("token-zq", HERE)
    with pytest.raises(DecryptionError, match="a key that INTEGRATION_ENCRYPTION_KEY does not hold") as refused:
        Vault((NEW,)).open(sealed, HERE)
    assert "token-zq" not in str(refused.value)


@pytest.mark.parametrize(
    "elsewhere",
    [
        Place("softpro.integrations", "access_token", OTHER_ROW),
        Place("softpro.integrations", "refresh_token", ROW),
        Place("softpro.oauth_states", "access_token", ROW),
    ],
)
def test_a_ciphertext_moved_to_another_cell_does_not_open(elsewhere: Place) -> None:
    vault = Vault((OLD,))
    sealed = vault.seal("token", HERE)
    with pytest.raises(DecryptionError, match="damaged or was copied"):
        vault.open(sealed, elsewhere)


def test_after_a_rotation_the_first_key_seals_and_all_open() -> None:
    before = Vault((OLD,)).seal("token", HERE)
    rotated = Vault((NEW, OLD))
    assert rotated.open(before, HERE) == "token"
    assert Vault((NEW,)).open(rotated.seal("token", HERE), HERE) == "token"


def test_only_what_the_first_key_sealed_is_current() -> None:
    rotated = Vault((NEW, OLD))
    sealed = [Vault((key,)).seal("token", HERE) for key in (NEW, OLD, b"k" * 32)]
    assert [rotated.is_current(each) for each in sealed] == [True, False, False]
    assert [rotated.is_current(written) for written in ("", "v1", "v2.x.y", "token")] == [False] * 4


def test_every_flipped_bit_is_noticed() -> None:
    vault = Vault((OLD,))
    version, key_id, body = vault.seal("token", HERE).split(".")
    sealed = base64.urlsafe_b64decode(body)
    for at in range(len(sealed)):
        for bit in (0x01, 0x80):
            flipped = bytes([*sealed[:at], sealed[at] ^ bit, *sealed[at + 1 :]])
            with pytest.raises(DecryptionError):
                vault.open(f"{version}.{key_id}.{base64.urlsafe_b64encode(flipped).decode()}", HERE)


@pytest.mark.parametrize(
    "written", ["", "v1", "v1.x.y", "v2.{id}.{body}", "v1.{id}.", "v1.{id}.AAAA", "v1.{id}.not base64 ü"]
)
def test_an_unsealed_value_is_one_clear_error(written: str) -> None:
    vault = Vault((OLD,))
    _, key_id, body = vault.seal("token", HERE).split(".")
    with pytest.raises(DecryptionError, match=r"softpro\.integrations\.access_token of 00000000-0000-0000"):
        vault.open(written.format(id=key_id, body=body), HERE)


@pytest.mark.parametrize("secret", ["token", "token!", "token!!"])
@pytest.mark.parametrize("change", ["{0}!{1}", "{0}\n{1}", " {0}{1}", "{0}{1}=", "{0}{1}====", "{0}{1}.{0}"])
def test_a_ciphertext_has_one_spelling(secret: str, change: str) -> None:
    vault = Vault((OLD,))
    version, key_id, body = vault.seal(secret, HERE).split(".")
    with pytest.raises(DecryptionError, match="damaged or was copied"):
        vault.open(f"{version}.{key_id}.{change.format(body[:8], body[8:])}", HERE)


def test_bits_of_the_last_letter_that_no_byte_needs_are_zero() -> None:
    vault = Vault((OLD,))
    sealed = vault.seal("token!", HERE)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="
    spellings = [sealed.rstrip("=")[:-1] + letter + "=" * sealed.count("=") for letter in letters]
    assert [spelled for spelled in spellings if _opens(vault, spelled)] == [sealed]


def _opens(vault: Vault, sealed: str) -> bool:
    try:
        return vault.open(sealed, HERE) == "token!"
    except DecryptionError:
        return False


def test_a_vault_does_not_show_its_keys() -> None:
    assert repr(Vault((b"zq" * 16,))) == "Vault()"
