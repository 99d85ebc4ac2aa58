"""Read the clock, and format timestamps as the contract does: ISO 8601, UTC, milliseconds."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import formatdate

Clock = Callable[[], float]
"""Returns seconds since 1970 (UTC). It is injected, so that tests control the time."""

_ZERO = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(Z|z|[+-]\d\d:?\d\d)?)?", flags=re.ASCII
)
DAY_MS = 86_400_000
_YEARS_MS = range(-62_135_596_800_000, 253_402_300_800_000)
"""The years 1 to 9999, the range of timestamps."""


def now_ms(clock: Clock) -> int:
    """Return the clock's time in whole milliseconds."""
    return int(clock() * 1000)


def iso(ms: int) -> str:
    """Format milliseconds since 1970 as the contract writes them: `2025-03-01T17:04:05.123Z`."""
    return (_ZERO + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")[:-6] + "Z"


def http_date(ms: int) -> str:
    """Format milliseconds since 1970 as an HTTP `Date` (whole seconds, rounded down)."""
    return formatdate(ms // 1000, usegmt=True)


def parse_ms(text: str, *, end_of_day: bool = False) -> int:
    """Parse a timestamp or a plain date into milliseconds since 1970; a fraction of a millisecond rounds up.

    Args:
        text: an ISO 8601 date or timestamp. A timestamp without an offset is UTC.
        end_of_day: read a plain date as its last millisecond instead of its first.
            Use it for an inclusive upper bound, which includes the whole day.

    Raises:
        ValueError: `text` is neither, or lies outside the years 1 to 9999.
    """
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError(f"not an ISO 8601 date or timestamp: {text!r}")
    day, time, zone = match.groups()
    if time is None:
        return _whole_ms(f"{day}T00:00+00:00") + (DAY_MS - 1 if end_of_day else 0)
    minutes, _, fraction = time.partition(".")
    offset = "+00:00" if zone in (None, "Z", "z") else zone
    nanoseconds = int(fraction.ljust(9, "0")) if fraction else 0
    moment = _whole_ms(f"{day}T{minutes}{offset}") + -(-nanoseconds // 1_000_000)
    if moment not in _YEARS_MS:
        raise ValueError(f"outside the years 1 to 9999: {text!r}")
    return moment


def _whole_ms(text: str) -> int:
    return (datetime.fromisoformat(text) - _ZERO) // timedelta(milliseconds=1)
