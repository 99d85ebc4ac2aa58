"""What can go wrong, named by what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID


class SoftProError(Exception):
    """Anything this product says to a person: what happened, to whom, and what to do next."""


class SettingsError(SoftProError):
    """Settings that are missing or wrong, all of them at once. Mend the environment and start again."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class UsageError(SoftProError):
    """The caller asked for something that can't be done: unknown organization, refused mapping, foreign state."""


class NotFoundHere(UsageError):
    """The integration, log or organization that was named does not exist in this database."""


class DecidedAlready(UsageError):
    """Somebody decided about it before, or there is nothing to decide any more."""


class Forbidden(SoftProError):
    """The person may not do this; somebody with more rights may."""


class TooManyCalls(SoftProError):
    """The person asked for runs more often than `limit` times a minute; the next is taken in `retry_after` seconds."""

    def __init__(self, limit: int, retry_after: int) -> None:
        self.limit, self.retry_after = limit, retry_after
        super().__init__(f"You started {limit} runs within a minute, as many as you may: try again in {retry_after} s")


class StateError(UsageError):
    """An OAuth state that is unknown, expired, already used or begun by someone else (RFC 6749 section 10.12)."""


class OutOfDate(SoftProError):
    """What was to be changed is not as it was when the caller looked at it. Look again, then decide anew."""


class MappingError(UsageError):
    """A mapping set that is refused as a whole; `problems` says why, entry by entry."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class VersionConflict(SoftProError):
    """The mappings are not those that the caller knows: someone changed them meanwhile. Read them, and try again."""

    def __init__(self, entity_type: str, expected: int, in_force: int | None) -> None:
        self.entity_type, self.version = entity_type, in_force
        now = f"version {in_force} is in force" if in_force else "there are none yet"
        super().__init__(
            f"The mappings of {entity_type.lower()}s are no longer version {expected}: {now}. "
            "Read them, and make the change again"
        )


class ConsentRefused(SoftProError):
    """The person, or the vendor, refused the authorization (RFC 6749 section 4.1.2.1). Connect again to retry."""


class DecryptionError(SoftProError):
    """A stored secret does not open with any key in INTEGRATION_ENCRYPTION_KEY, or was moved from its row."""


class DatabaseUnavailable(SoftProError):
    """The database can't be reached, or refuses us."""


class SchemaError(SoftProError):
    """The database lacks migrations; run `python -m softpro migrate`."""


class LeaseLost(SoftProError):
    """Another run took this stream over; what was landed stays, and its new owner loads it."""


class LeaseHeld(SoftProError):
    """Another run works on this stream now; `log_id` is its log, where it can be told."""

    def __init__(self, message: str, log_id: UUID | None = None) -> None:
        self.log_id = log_id
        super().__init__(message)


class NotConnected(SoftProError):
    """The integration has no usable grant; a person has to connect it (again)."""


class TokenUnavailable(SoftProError):
    """SoftPro's OAuth server gave no access token; the grant stands, and the next run asks again."""


class SoftProAPIError(SoftProError):
    """An answer of SoftPro 360 that is not a success, with what it said.

    `status_code` is the HTTP status (0: none came), `error_code` the vendor's code, `details` its details, if any,
    `request_id` its name for the request. `retryable` says whether the same request may succeed later;
    `repeated` is set where an earlier try of the same call may have been carried out although its answer was lost.
    `request` and `answer` tell what was asked and said, without personal data and secrets: logs keep them.
    """

    retryable = False
    repeated = False
    request: Mapping[str, Any] | None = None
    answer: Mapping[str, Any] | None = None

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
    """401: the access token is not good (any more)."""


class ForbiddenError(SoftProAPIError):
    """403: the grant lacks the scope."""


class ValidationError(SoftProAPIError):
    """400: the request can't be right."""


class RecordNotFound(SoftProAPIError):
    """404: no such record, now."""


class ConflictError(SoftProAPIError):
    """409: another version stands there now (`details.current`)."""


class RateLimitError(SoftProAPIError):
    """429: `retry_after` seconds to wait."""

    retryable = True


class BudgetExhausted(RateLimitError):
    """Our own count of the vendor's limit is used up for `retry_after` seconds; nothing was sent."""


class ServerError(SoftProAPIError):
    """5xx, or an answer that is no answer: a proxy's page, an empty or cut-short body."""

    retryable = True


class NetworkError(SoftProAPIError):
    """No answer: refused, reset, timed out. `sent` is False where the request certainly did not arrive."""

    retryable = True

    def __init__(self, message: str, *, sent: bool = True) -> None:
        self.sent = sent
        super().__init__(message)


class CircuitOpen(SoftProError):
    """The vendor failed too often in a row; it is asked again in `retry_after` seconds. Nothing was sent."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class FateUnknown(SoftProError):
    """A create was sent and its answer lost: it may have happened. Ask again at `due_at`; it is looked for then."""

    def __init__(self, message: str, *, due_at: datetime) -> None:
        self.due_at = due_at
        super().__init__(message)


class CheckFailed(SoftProError):
    """The quality suite could not be run; nothing was loaded."""


class BatchHeld(SoftProError):
    """Something is wrong with a batch as a whole: nothing of it was loaded, and a person has to decide.

    `again`: this very run was held for the same before.
    """

    def __init__(self, message: str, *, again: bool = False) -> None:
        self.again = again
        super().__init__(message)


class RulesUnavailable(SoftProError):
    """The process that evaluates mapping rules does not stay alive; nothing was loaded."""


RECORD_ERRORS = (ServerError, NetworkError, ValidationError, ConflictError, UsageError)
"""Errors of a call that concern its record alone: the next record may be asked for."""
