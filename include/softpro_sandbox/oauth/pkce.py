"""Verify Proof Key for Code Exchange with S256 (RFC 7636)."""

import base64
import hashlib
import hmac
import re

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def create_challenge(verifier: str) -> str:
    """Return the S256 challenge of a verifier: BASE64URL(SHA256(verifier)) without padding (§4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_challenge(text: str) -> bool:
    """Return whether a text has the form of an S256 challenge."""
    return _CHALLENGE.fullmatch(text) is not None


def verify(verifier: str | None, challenge: str | None) -> bool:
    """Return whether the verifier matches the challenge.

    Either without the other fails: a missing challenge may have been stripped (RFC 9700 §2.1.1).
    """
    if challenge is None or verifier is None:
        return challenge is None and verifier is None
    return _VERIFIER.fullmatch(verifier) is not None and hmac.compare_digest(create_challenge(verifier), challenge)
