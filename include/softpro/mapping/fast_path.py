"""The plain steps of a mapping set, taken together: the quick way for records that hold nothing out of the ordinary.

It makes the same of them as `step.value` does, step by step. All others it gives up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from softpro.mapping.columns import Type
from softpro.mapping.field_reader import Fields, fields
from softpro.mapping.step import Step

NUL = rb"\u0000"  # stands in texts that are no text to PostgreSQL, and in some that are


@dataclass(frozen=True)
class Plain:
    """`steps` are those it takes; `unfinished` those whose field is not yet their value, with its place."""

    steps: frozenset[Step]
    fields: Fields
    unfinished: tuple[tuple[int, Step], ...]
    arrange: Callable[[Sequence[Any]], tuple[Any, ...]]

    def row(self, payload: bytes) -> tuple[Any, ...] | None:
        """A record's values in the order of the columns, None for those of other steps; None where it gives up."""
        if NUL in payload:
            return None
        try:
            values = self.fields.read(payload)
            for place, step in self.unfinished:
                value = step.default if values[place] is None else values[place]
                if value is not None:
                    values[place] = step.convert(value)
                elif step.required:
                    return None
        except (ValueError, RecursionError):
            return None
        values.append(None)
        return self.arrange(values)


def plain(steps: Sequence[Step], columns: Sequence[str]) -> Plain:
    """Takes the plain ones of the steps, but for those whose field is taken by another one, or lies inside it."""
    by_path: dict[tuple[str, ...], Step] = {}
    for step in steps:
        if step.plain:
            by_path.setdefault(tuple(map(str, step.path)), step)
    read = fields({path: step.kind is Type.TEXT for path, step in by_path.items()})
    taken = {step.column: (read.places[path], step) for path, step in by_path.items() if path in read.places}
    nothing = len(read.places)
    return Plain(
        steps=frozenset(step for _, step in taken.values()),
        fields=read,
        unfinished=tuple(
            (place, step)
            for place, step in taken.values()
            if step.kind is not Type.TEXT or step.default is not None or step.required
        ),
        arrange=itemgetter(*(taken[column][0] if column in taken else nothing for column in columns)),
    )
