"""Define the errors, named by what the caller should do about them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

CONTROL_CHARACTERS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {
    code: f"\\u{code:04x}" for code in (0x2028, 0x2029)
}
"""The characters that begin a new line or control a terminal, with the escapes that messages show instead."""


class SoftProError(Exception):
    """Any error whose message a user reads: what happened, to which organization, and the next step.

    The message can quote text from outside. Its control characters are escaped, so that it is one line in every log.
    """

    def __str__(self) -> str:
        return super().__str__().translate(CONTROL_CHARACTERS)


class SettingsError(SoftProError):
    """Settings are missing or wrong; `problems` lists all of them. Correct the environment and restart."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class UsageError(SoftProError):
    """The request can't be fulfilled: an unknown organization, a refused mapping, a foreign OAuth state."""


class NotFoundHere(UsageError):
    """The named integration, log or organization does not exist in this database."""


class AlreadyDecided(UsageError):
    """The item was decided earlier, or nothing is left to decide."""


class Forbidden(SoftProError):
    """The user lacks the right; a user with more rights may do this."""


class TooManyCalls(SoftProError):
    """The user started more than `limit` runs within a minute and may retry in `retry_after` seconds."""

    def __init__(self, limit: int, retry_after: int) -> None:
        self.limit, self.retry_after = limit, retry_after
        super().__init__(f"You started {limit} runs within a minute, which is the limit: try again in {retry_after} s")


class PreviewRunning(SoftProError):
    """Another preview of the stream is running."""


class TooSlow(SoftProError):
    """The work took longer than a request may, and was stopped. Make it smaller or simpler."""


class StateError(UsageError):
    """An OAuth state is unknown, expired, already used or of another browser (RFC 6749 section 10.12)."""


class OutOfDate(SoftProError):
    """The item changed since the caller read it. Read it again, then decide."""


class MappingError(UsageError):
    """A mapping set is refused as a whole; `problems` gives the reasons, entry by entry."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class VersionConflict(SoftProError):
    """The mappings changed since the caller read them. Read them and make the change again."""

    def __init__(self, entity_type: str, expected: int, in_force: int | None) -> None:
        self.entity_type, self.version = entity_type, in_force
        now = f"version {in_force} is in force" if in_force else "there are none yet"
        super().__init__(
            f"The mappings of {entity_type.lower()}s are no longer version {expected}: {now}. "
            "Read them, and make the change again"
        )


class ConsentRefused(SoftProError):
    """The user, or the vendor, refused the authorization (RFC 6749 section 4.1.2.1). Connect again to retry."""


class DecryptionError(SoftProError):
    """No key in INTEGRATION_ENCRYPTION_KEY decrypts a stored secret, or the secret was moved from its row."""


class DatabaseUnavailable(SoftProError):
    """The database can't be reached, or refuses the connection."""


class Busy(SoftProError):
    """A lock or a place for the work is not free now. Try again in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int = 5) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class DatabaseBusy(Busy, DatabaseUnavailable):
    """The database refuses to wait longer: for a lock that another session holds, or for a statement to end."""


class TooManyRequests(Busy):
    """An address or a user sends more requests than allowed. Try again in `retry_after` seconds."""


class SchemaError(SoftProError):
    """The database lacks migrations; run `python -m softpro migrate`."""


class LeaseLost(SoftProError):
    """Another run took over this stream. Landed records stay, and the new owner loads them."""


class LeaseHeld(SoftProError):
    """Another run works on this stream; `log_id` is its sync log, if known."""

    def __init__(self, message: str, log_id: UUID | None = None) -> None:
        self.log_id = log_id
        super().__init__(message)


class NotConnected(SoftProError):
    """The integration has no usable grant; a user has to connect it (again)."""


class TokenUnavailable(SoftProError):
    """SoftPro's OAuth server issued no access token. The grant is kept, and the next run retries."""


class SoftProAPIError(SoftProError):
    """A response of SoftPro 360 that is not a success, or no response at all.

    Attributes:
        status_code: HTTP status; 0 without a response, or 503 for a `NetworkError`.
        error_code: the vendor's code.
        details: the vendor's details, if any.
        retry_after: seconds to wait, if the vendor gave them.
        request_id: the vendor's id of the request.
        retryable: the same request may succeed later.
        repeated: an earlier attempt of the same call may have been carried out, although its response was lost.
        request: the request without personal data and secrets, for logs.
        response: the response without personal data and secrets, for logs.
    """

    retryable = False
    repeated = False
    request: Mapping[str, Any] | None = None
    response: Mapping[str, Any] | None = None

    def __init__(
        self,
        message: str,
        *,
        status_code: int = 0,
        error_code: str = "",
        details: Any = None,
        retry_after: float | None = None,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.error_code = error_code
        self.details = details
        self.retry_after = retry_after
        self.request_id = request_id


class AuthenticationError(SoftProAPIError):
    """401: the access token is not valid (any more)."""


class ForbiddenError(SoftProAPIError):
    """403: the grant lacks the scope."""


class ValidationError(SoftProAPIError):
    """400: the request is invalid."""


class RecordNotFound(SoftProAPIError):
    """404: the record does not exist now."""


class ConflictError(SoftProAPIError):
    """409: the record has another version now (`details.current`)."""


class RateLimitError(SoftProAPIError):
    """429: wait `retry_after` seconds."""

    retryable = True


class BudgetExhausted(RateLimitError):
    """Our own count of the vendor's limit is used up for `retry_after` seconds; nothing was sent."""


class ServerError(SoftProAPIError):
    """5xx, or an unusable response: a proxy's page, an empty or truncated body."""

    retryable = True


class NetworkError(SoftProAPIError):
    """No response: refused, reset, timed out. `sent` is False if the request certainly did not arrive.

    Its `status_code` is 503, as in the specification.
    """

    retryable = True

    def __init__(self, message: str, *, sent: bool = True) -> None:
        self.sent = sent
        super().__init__(message, status_code=503)


class CircuitOpen(SoftProError):
    """Too many calls in a row failed, so nothing was sent. The next call is allowed in `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class OutcomeUnknown(SoftProError):
    """A create was sent and its response was lost, so the record may exist.

    Call again at `due_at`: the record is looked up then.
    """

    def __init__(self, message: str, *, due_at: datetime) -> None:
        self.due_at = due_at
        super().__init__(message)


class CheckFailed(SoftProError):
    """The quality suite could not run; nothing was loaded."""


class CheckTooSlow(CheckFailed, TooSlow):
    """A check took longer than allowed, and was cancelled; nothing was loaded."""


class BatchHeld(SoftProError):
    """A batch is suspicious as a whole: nothing of it was loaded, and a user has to decide.

    `again` is set if this run was held for the same reason before.
    """

    def __init__(self, message: str, *, again: bool = False) -> None:
        self.again = again
        super().__init__(message)


class RulesUnavailable(SoftProError):
    """The process that evaluates mapping rules keeps ending; nothing was loaded."""


RECORD_ERRORS = (ServerError, NetworkError, ValidationError, ConflictError, UsageError)
"""Errors that concern only the record of the call; the caller may continue with the next record."""
