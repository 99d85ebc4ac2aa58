"""Encrypt the columns that hold secrets with AES-256-GCM, each ciphertext bound to its row and column.

A sealed text has the form `v1.<key id>.<base64url of nonce and ciphertext>`. The key id names the key that opens it.
Table, column and row id are authenticated, so a ciphertext copied elsewhere does not open (NIST SP 800-38D).
See docs/design/security.md.
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
    """The cell that a secret belongs to."""

    table: str
    column: str
    row: UUID

    def __str__(self) -> str:
        return f"{self.table}.{self.column} of {self.row}"


@dataclass(frozen=True)
class Vault:
    """A set of 32-byte keys that seals with the first key and opens with any of them."""

    keys: tuple[bytes, ...] = field(repr=False)

    def seal(self, secret: str, place: Place) -> str:
        """Encrypt a secret for its cell with the first key."""
        key = self.keys[0]
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + AESGCM(key).encrypt(nonce, secret.encode(), str(place).encode())
        return f"{VERSION}.{_key_id(key)}.{base64.urlsafe_b64encode(sealed).decode()}"

    def is_current(self, sealed: str) -> bool:
        """Return whether the text is sealed with the first key."""
        return self.key_of(sealed) == 0

    def key_of(self, sealed: str) -> int | None:
        """Return the index of the key that the text is sealed with; None for an unknown key."""
        indexes = (n for n, key in enumerate(self.keys) if sealed.startswith(f"{VERSION}.{_key_id(key)}."))
        return next(indexes, None)

    def open(self, sealed: str, place: Place) -> str:
        """Return the secret. Raises DecryptionError, which names the cell and never the content."""
        version, _, rest = sealed.partition(".")
        key_id, _, body = rest.partition(".")
        key = next((key for key in self.keys if _key_id(key) == key_id), None)
        if version != VERSION or key is None:
            raise DecryptionError(
                f"The stored {place} was encrypted with a key that INTEGRATION_ENCRYPTION_KEY does not hold: "
                "set the key it was stored with, or connect the organization again"
            )
        try:
            data = base64.b64decode(body, b"-_", validate=True)
            if base64.urlsafe_b64encode(data).decode() != body:  # other bits in the last letter, or other padding
                raise ValueError
            return AESGCM(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], str(place).encode()).decode()
        except (InvalidTag, ValueError, binascii.Error):
            raise DecryptionError(
                f"The stored {place} is damaged or was copied from another row or column: "
                "connect the organization again"
            ) from None


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"softpro key id" + key).hexdigest()[:8]
