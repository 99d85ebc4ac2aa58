"""Read settings from the environment, in groups, so that a command requires only the ones it uses.

`load(OAuthSettings, SyncSettings)` returns the groups in that order, or raises one `SettingsError` with every problem.
Plain http is accepted only for loopback addresses.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, overload
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from softpro.delete_limit import DeleteLimit
from softpro.errors import SettingsError

STATE_DIRECTORY = Path(".softpro")

MIN_SYNC_SECONDS = 60  # the DAG runs every minute
MAX_SYNC_SECONDS = 7 * 24 * 3600

MIN_KEY_VARIETY = 12
"""The least number of distinct bytes in a key. Random keys have about 30, and never fewer than this."""

MIN_SECRET_BYTES, MIN_SECRET_VARIETY = 16, 8

log = logging.getLogger(__name__)


def is_loopback(host: str | None) -> bool:
    """Return whether the host is localhost or in the loopback ranges of RFC 6890."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("should be a web address such as https://host/path")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("should start with https:// (plain http is for loopback addresses only)")
    if parts.username or parts.password or parts.fragment:
        raise ValueError("should hold no user, password or #fragment")
    return value.rstrip("/")


def _origins(value: str) -> str:
    origins = [_web_address(part.strip()) for part in value.split(",")] if value.strip() else []
    if any(f"{parts.scheme}://{parts.netloc}" != origin for origin in origins for parts in [urlsplit(origin)]):
        raise ValueError("should be origins such as https://app.example.com, separated by commas, without a path")
    return ",".join(origins)


def _decode_key(text: str) -> bytes:
    if len(text) == 64:
        return bytes.fromhex(text)
    if len(text) == 44:
        return base64.b64decode(text, validate=True)
    return text.encode()


def _split_keys(value: str) -> list[str]:
    return [value] if len(value.encode()) == 32 else [part.strip() for part in value.split(",")]


def parse_keys(value: str) -> tuple[bytes, ...]:
    """Return the keys of INTEGRATION_ENCRYPTION_KEY, 32 bytes each. The first encrypts, all decrypt.

    Raises:
        ValueError: with the expected form, never with the key.
    """
    keys = []
    for text in _split_keys(value):
        try:
            key = _decode_key(text)
        except (ValueError, binascii.Error):
            key = b""
        if len(key) != 32:
            raise ValueError("should be 32 bytes: 32 characters of text, 64 of hex, or 44 of base64 (several: a,b)")
        keys.append(key)
    return tuple(keys)


def weakness_of_key(text: str, key: bytes) -> str | None:
    """Return why a guess could find an encryption key, as a clause after "should", or None."""
    if re.fullmatch(r"[0-9a-fA-F]{32}", text):
        return "be 64 characters of hex: these 32 characters are only 16 random bytes"
    return _weakness(key, MIN_KEY_VARIETY)


def weakness_of_secret(secret: bytes) -> str | None:
    """Return why a guess could find a webhook secret, as a clause after "should", or None."""
    if len(secret) < MIN_SECRET_BYTES:
        return f"have at least {MIN_SECRET_BYTES} characters"
    return _weakness(secret, MIN_SECRET_VARIETY)


def _weakness(secret: bytes, variety: int) -> str | None:
    if len(set(secret)) < variety or secret in (secret * 2)[1:-1]:
        return "be random: this one repeats few characters"
    return None


def _refuse_weak(name: str, weaknesses: Sequence[str | None]) -> None:
    """Refuse a weak first value, which is the one in use, and warn about weak ones that are being replaced."""
    first, *others = weaknesses
    if first:
        raise ValueError(f"should {first}")
    for place, weakness in enumerate(others, 2):
        if weakness:
            log.warning("%s: number %d is weak. Finish its replacement, then remove it", name, place)


def parse_webhook_secrets(value: str) -> tuple[bytes, ...]:
    """Return the secrets of SOFTPRO_WEBHOOK_SECRET, or an empty tuple if it is empty.

    Raises:
        ValueError: with the expected form.
    """
    if not value.strip():
        return ()
    secrets = [part.strip().encode() for part in value.split(",")]
    if not all(secrets) or len(secrets) > 2:
        raise ValueError("should be one secret or, while it is changed, two, separated by a comma")
    return tuple(secrets)


def _webhook_secrets(value: SecretStr | None) -> SecretStr | None:
    if value is not None and (secrets := parse_webhook_secrets(value.get_secret_value())):
        _refuse_weak("SOFTPRO_WEBHOOK_SECRET", [weakness_of_secret(secret) for secret in secrets])
    return value


def _keys(value: SecretStr) -> SecretStr:
    written = value.get_secret_value()
    keys = parse_keys(written)
    weaknesses = [weakness_of_key(text, key) for text, key in zip(_split_keys(written), keys, strict=True)]
    _refuse_weak("INTEGRATION_ENCRYPTION_KEY", weaknesses)
    return value


def _present(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError("should not be empty")
    return value


WebAddress = Annotated[str, AfterValidator(_web_address)]
Secret = Annotated[SecretStr, AfterValidator(_present)]


class Group(BaseSettings):
    """Settings that are read and validated together; immutable."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class DatabaseSettings(Group):
    """Where the database is. Without an address, an embedded PostgreSQL below `.softpro/`."""

    database_url: SecretStr | None = Field(
        None, alias="SOFTPRO_DATABASE_URL", description="a libpq address such as postgresql://user@host/database"
    )
    web_url: SecretStr | None = Field(
        None,
        alias="SOFTPRO_WEB_DATABASE_URL",
        description="a libpq address such as postgresql://web@host/database, for the API server",
    )
    migrate_url: SecretStr | None = Field(
        None,
        alias="SOFTPRO_MIGRATE_DATABASE_URL",
        description="a libpq address such as postgresql://owner@host/database, for `python -m softpro migrate`",
    )


class EncryptionSettings(Group):
    """The keys that encrypt stored tokens and client secrets."""

    encryption_key: Annotated[SecretStr, AfterValidator(_keys)] = Field(
        alias="INTEGRATION_ENCRYPTION_KEY",
        description="32 bytes: 32 characters of text, 64 of hex, or 44 of base64",
    )

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Return the parsed keys; see `parse_keys`."""
        return parse_keys(self.encryption_key.get_secret_value())


class CredentialSettings(Group):
    """The OAuth client that SoftPro registered for us; an organization may bring its own."""

    client_id: Annotated[str, Field(min_length=1)] = Field(
        alias="SOFTPRO_CLIENT_ID", description="the OAuth client id that SoftPro registered"
    )
    client_secret: Secret = Field(alias="SOFTPRO_CLIENT_SECRET", description="the OAuth client secret")


class OAuthSettings(Group):
    """The vendor's OAuth addresses (RFC 6749), and the address of our callback."""

    authorize_url: WebAddress = Field(
        "https://auth.softprocorp.com/oauth/authorize", alias="SOFTPRO_OAUTH_AUTHORIZE_URL"
    )
    token_url: WebAddress = Field("https://auth.softprocorp.com/oauth/token", alias="SOFTPRO_OAUTH_TOKEN_URL")
    revoke_url: WebAddress = Field("https://auth.softprocorp.com/oauth/revoke", alias="SOFTPRO_OAUTH_REVOKE_URL")
    redirect_uri: WebAddress = Field(
        "http://localhost:3000/api/v1/integrations/softpro/callback", alias="SOFTPRO_OAUTH_REDIRECT_URI"
    )


class VendorSettings(Group):
    """The addresses of the vendor's API, and the limits for calling it."""

    sandbox_base_url: WebAddress = Field("https://api-sandbox.softprocorp.com/api/v1", alias="SOFTPRO_SANDBOX_BASE_URL")
    production_base_url: WebAddress = Field("https://api.softprocorp.com/api/v1", alias="SOFTPRO_PRODUCTION_BASE_URL")
    max_retries: int = Field(3, alias="SOFTPRO_MAX_RETRIES", ge=0, le=20, description="a whole number, 0 to 20")
    rate_limit: float = Field(
        100,
        alias="SOFTPRO_RATE_LIMIT_PER_MIN",
        gt=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="requests a minute, above 0 and at most 1000000",
    )
    reserve_percent: float = Field(
        10,
        alias="SOFTPRO_RATE_LIMIT_RESERVE",
        ge=0,
        le=90,
        description="the percentage of the limit that bulk sync leaves to other calls, 0 to 90",
    )


class SyncSettings(Group):
    """The page size of a sync and its interval."""

    batch_size: int = Field(50, alias="SOFTPRO_SYNC_BATCH_SIZE", ge=1, le=200, description="a whole number, 1 to 200")
    interval: int = Field(
        300,
        alias="SOFTPRO_SYNC_INTERVAL",
        ge=MIN_SYNC_SECONDS,
        le=MAX_SYNC_SECONDS,
        description=f"seconds, a whole number from {MIN_SYNC_SECONDS} to {MAX_SYNC_SECONDS}",
    )


class ReconcileSettings(Group):
    """How many records a reconcile deletes without approval; the lower of the two limits applies."""

    percent: float = Field(
        5,
        alias="SOFTPRO_DELETE_LIMIT_PERCENT",
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="a percentage of a stream's records, 0 to 100",
    )
    records: int = Field(
        500, alias="SOFTPRO_DELETE_LIMIT_RECORDS", ge=0, le=1_000_000_000, description="a whole number, 0 or more"
    )

    @property
    def delete_limit(self) -> DeleteLimit:
        """Return both limits as one value."""
        return DeleteLimit(self.percent, self.records)


class QualitySettings(Group):
    """When a batch is held, and how long check results are kept."""

    row_count_fall_percent: float = Field(
        20,
        alias="SOFTPRO_ROW_COUNT_FALL_PERCENT",
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="a percentage of a stream's rows, 0 to 100",
    )
    check_results_days: int = Field(
        400, alias="SOFTPRO_CHECK_RESULTS_DAYS", ge=1, le=36_500, description="days, a whole number above 0"
    )


class WebhookSettings(Group):
    """The secrets that verify webhooks, and how long events are kept. Without a secret, none is accepted."""

    secret: Annotated[SecretStr | None, AfterValidator(_webhook_secrets)] = Field(
        None,
        alias="SOFTPRO_WEBHOOK_SECRET",
        description="the secret that SoftPro signs webhooks with; two, separated by a comma, while it is changed",
    )
    event_days: int = Field(
        30, alias="SOFTPRO_WEBHOOK_EVENT_DAYS", ge=1, le=36_500, description="days, a whole number above 0"
    )

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """Return the parsed secrets; see `parse_webhook_secrets`."""
        return parse_webhook_secrets(self.secret.get_secret_value()) if self.secret else ()


class OutboxSettings(Group):
    """How long edits are kept after both sides agree on them."""

    days: int = Field(400, alias="SOFTPRO_OUTBOX_DAYS", ge=1, le=36_500, description="days, a whole number above 0")


class AuditSettings(Group):
    """How long entries of the audit log are kept."""

    days: int = Field(1095, alias="SOFTPRO_AUDIT_DAYS", ge=30, le=36_500, description="days, a whole number above 29")


class CallSettings(Group):
    """How often a user may start runs over HTTP."""

    sync_calls: int = Field(
        30,
        alias="SOFTPRO_SYNC_CALLS_PER_MINUTE",
        ge=1,
        le=100_000,
        description="a whole number, 1 to 100000",
    )


class WebSettings(Group):
    """The frontend that a browser returns to after the OAuth callback, and the frontends that call the API."""

    frontend_url: WebAddress = Field("http://localhost:3000", alias="FRONTEND_URL")
    allowed_origins: Annotated[str, AfterValidator(_origins)] | None = Field(None, alias="SOFTPRO_ALLOWED_ORIGINS")

    @property
    def origins(self) -> list[str]:
        """Return the origins whose pages may call the API with a Bearer token; none by default."""
        return self.allowed_origins.split(",") if self.allowed_origins else []


A = TypeVar("A", bound=Group)
B = TypeVar("B", bound=Group)
C = TypeVar("C", bound=Group)
D = TypeVar("D", bound=Group)
E = TypeVar("E", bound=Group)


@overload
def load(a: type[A], /) -> tuple[A]: ...
@overload
def load(a: type[A], b: type[B], /) -> tuple[A, B]: ...
@overload
def load(a: type[A], b: type[B], c: type[C], /) -> tuple[A, B, C]: ...
@overload
def load(a: type[A], b: type[B], c: type[C], d: type[D], /) -> tuple[A, B, C, D]: ...
@overload
def load(a: type[A], b: type[B], c: type[C], d: type[D], e: type[E], /) -> tuple[A, B, C, D, E]: ...
def load(*groups: type[Group]) -> tuple[Any, ...]:
    """Read all groups from the environment before reporting any problem.

    Raises:
        SettingsError: with one line for each variable that is missing or wrong, and its expected form.
    """
    loaded, problems = [], []
    for group in groups:
        try:
            loaded.append(group())
        except ValidationError as invalid:
            problems.extend(_problems(group, invalid))
    if problems:
        raise SettingsError(problems)
    return tuple(loaded)


def _problems(group: type[Group], invalid: ValidationError) -> list[str]:
    expected = {field.alias: field.description for field in group.model_fields.values()}
    lines = []
    for error in invalid.errors(include_input=False, include_url=False):
        name = str(error["loc"][0])
        if error["type"] == "missing":
            lines.append(f"{name} is not set; it should be {expected[name]}")
        elif error["type"] == "value_error":
            lines.append(f"{name} is wrong: it {error['ctx']['error']}")
        else:
            lines.append(f"{name} is wrong: it should be {expected[name]}")
    return lines
