"""Parse and follow dotted paths into a record: `status`, `propertyAddress.city`, `buyer[0].contactId`."""

from __future__ import annotations

import re
from typing import Any, Final

Path = tuple[str | int, ...]

STEP = re.compile(r"([^.\[\]\s]+)((?:\[\d{1,4}\])*)")
MISSING: Final = object()
"""The field is absent, which differs from null."""


def parse(text: str) -> Path:
    """Return the steps of a path: names and indexes.

    Raises:
        ValueError: the text is not a dotted path.
    """
    steps: list[str | int] = []
    for part in text.split("."):
        matched = STEP.fullmatch(part)
        if matched is None:
            raise ValueError(f"{text!r} is not a dotted path such as propertyAddress.city or buyer[0].contactId")
        steps.append(matched[1])
        steps.extend(int(index) for index in re.findall(r"\d+", matched[2]))
    return tuple(steps)


def look_up(record: Any, path: Path) -> Any:
    """Return the value at the path, or MISSING. A null before the last step counts as missing."""
    value = record
    for step in path:
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                return MISSING
            value = value[step]
        else:
            if not isinstance(value, list) or step >= len(value):
                return MISSING
            value = value[step]
    return value
