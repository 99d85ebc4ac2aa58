"""Parse and format timestamps as the vendor writes them: ISO 8601, UTC, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def parse_time(text: str) -> datetime:
    """Return an aware datetime in UTC. A text without a zone is read as UTC.

    Raises:
        ValueError, TypeError, OverflowError: the text is not a timestamp.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is UTC:
        return moment
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def format_milliseconds(moment: datetime) -> str:
    """Return `2025-01-01T00:00:05.000Z`, as in the specification's responses. Finer digits are dropped."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def format_time(moment: datetime) -> str:
    """Return `2025-03-01T17:04:05.123Z`. Non-zero microseconds are kept."""
    timespec = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec) + "Z"
