"""Timestamps as the vendor writes them: ISO 8601, UTC, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime


def parse_time(text: str) -> datetime:
    """An aware datetime in UTC; a text that names no zone is UTC. Raises ValueError, TypeError, OverflowError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is UTC:
        return moment
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def format_milliseconds(moment: datetime) -> str:
    """As in the specification's answers: `2025-01-01T00:00:05.000Z`, whatever finer digits there are."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def format_time(moment: datetime) -> str:
    """`2025-03-01T17:04:05.123Z`; finer digits are kept where there are any."""
    timespec = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec) + "Z"
