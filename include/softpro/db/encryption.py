"""AES-256-GCM for the few columns that hold secrets, each ciphertext bound to its row and column.

A sealed text reads `v1.<key id>.<base64url of nonce and ciphertext>`. The key id says which of several keys opens it;
table, column and row id are authenticated with it, so a ciphertext copied elsewhere does not open (NIST SP 800-38D).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from softpro.errors import DecryptionError

VERSION = "v1"
NONCE_BYTES = 12


@dataclass(frozen=True)
class Place:
    """The one cell a secret belongs to."""

    table: str
    column: str
    row: UUID

    def __str__(self) -> str:
        return f"{self.table}.{self.column} of {self.row}"


@dataclass(frozen=True)
class Vault:
    """Seals with the first of its keys (32 bytes each), opens with any of them."""

    keys: tuple[bytes, ...] = field(repr=False)

    def seal(self, secret: str, place: Place) -> str:
        key = self.keys[0]
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + AESGCM(key).encrypt(nonce, secret.encode(), str(place).encode())
        return f"{VERSION}.{_key_id(key)}.{base64.urlsafe_b64encode(sealed).decode()}"

    def is_current(self, sealed: str) -> bool:
        """Whether it was sealed with the first key, and so would not be sealed otherwise today."""
        return self.key_of(sealed) == 0

    def key_of(self, sealed: str) -> int | None:
        """Which of the keys it was sealed with, by its place among them; None for another one."""
        places = (n for n, key in enumerate(self.keys) if sealed.startswith(f"{VERSION}.{_key_id(key)}."))
        return next(places, None)

    def open(self, sealed: str, place: Place) -> str:
        """The secret. Raises DecryptionError, which names the place and never the content."""
        version, _, rest = sealed.partition(".")
        key_id, _, body = rest.partition(".")
        key = next((key for key in self.keys if _key_id(key) == key_id), None)
        if version != VERSION or key is None:
            raise DecryptionError(
                f"The stored {place} was encrypted with a key that INTEGRATION_ENCRYPTION_KEY does not hold: "
                "set the key it was stored with, or connect the organization again"
            )
        try:
            data = base64.urlsafe_b64decode(body)
            return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], str(place).encode()).decode()
        except (InvalidTag, ValueError, binascii.Error):
            raise DecryptionError(
                f"The stored {place} is damaged or was moved there from elsewhere: connect the organization again"
            ) from None


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"softpro key id" + key).hexdigest()[:8]
