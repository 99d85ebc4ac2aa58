"""Map ordinary records quickly by reading all plain steps of a set in one pass.

The result equals that of `step.value` for each step. Unusual records are left to `compiler`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from softpro.mapping.columns import Type
from softpro.mapping.field_reader import Fields, fields
from softpro.mapping.step import Step

NUL = rb"\u0000"  # PostgreSQL refuses most texts that contain it


@dataclass(frozen=True)
class FastPath:
    """The plain steps of a set.

    Attributes:
        steps: the steps that it reads.
        fields: decodes their fields.
        unfinished: the steps whose field still has to be converted, checked or defaulted, with its index.
        arrange: puts the values in the order of the columns.
    """

    steps: frozenset[Step]
    fields: Fields
    unfinished: tuple[tuple[int, Step], ...]
    arrange: Callable[[Sequence[Any]], tuple[Any, ...]]

    def row(self, payload: bytes) -> tuple[Any, ...] | None:
        """Return the values in column order, None for columns of other steps. Return None for unusual records."""
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


def build_fast_path(steps: Sequence[Step], columns: Sequence[str]) -> FastPath:
    """Take the plain steps, except those whose field another step reads or that lie inside another's field."""
    by_path: dict[tuple[str, ...], Step] = {}
    for step in steps:
        if step.plain:
            by_path.setdefault(tuple(map(str, step.path)), step)
    read = fields({path: step.kind is Type.TEXT for path, step in by_path.items()})
    taken = {step.column: (read.places[path], step) for path, step in by_path.items() if path in read.places}
    nothing = len(read.places)
    return FastPath(
        steps=frozenset(step for _, step in taken.values()),
        fields=read,
        unfinished=tuple(
            (place, step)
            for place, step in taken.values()
            if step.kind is not Type.TEXT or step.default is not None or step.required
        ),
        arrange=itemgetter(*(taken[column][0] if column in taken else nothing for column in columns)),
    )
